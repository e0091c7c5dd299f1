// The program without its command line: six verbs on plain structs.
//
//   #include <lewis/lewis.h>
//
//   lewis::MergeJob job;
//   job.recipe = lewis::open_recipe("recipe.yml");
//   job.out = "merged";
//   lewis::MergeResult result = lewis::merge(job);
//
// Every verb returns a plain struct and throws lewis::Error (lewis/error.h). It prints nothing and
// has no global state: several verbs may run at the same time, each on a thread of its caller.
// Sizes are in bytes, times in seconds.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <lewis/error.h>
#include <lewis/export.h>
#include <lewis/hub.h>
#include <lewis/merge_part.h>
#include <lewis/options.h>
#include <lewis/progress.h>
#include <lewis/proof.h>
#include <lewis/recipe.h>
#include <lewis/results.h>
#include <lewis/run_context.h>
#include <lewis/tensor_source.h>

namespace lewis {

// Values of linear layers under a title: usually the name of a model.
struct ModuleValues {
  std::string title;
  LayerValues values;
};

// ---- calibrate: statistics of a model's layers on a text ----

struct CalibratedText {
  std::string model;
  std::filesystem::path file;  // safetensors (docs/lewis.md), or .gguf as llama.cpp has it
  uint64_t tokens = 0, sequences = 0;
  size_t linear_layers = 0;
  bool reused = false;                        // taken from the cache
  std::map<std::string, std::string> origin;  // model, data, format, compute, hashes, ...
};

struct CalibrateJob {
  // A model folder, or a recipe's file. Without `data` the recipe's own models are calibrated on
  // the texts of its lewis: section; with `data` the merge is calibrated, which is not written.
  std::filesystem::path model;
  std::filesystem::path data;
  std::string format;                      // gsm8k, mbpp, chat, jsonl, text, ids; "": by the ending
  std::string prompt_field, answer_field;  // format jsonl
  uint64_t samples = 0;                    // 0: all
  uint64_t seed = 42;                      // of the choice of samples
  uint64_t max_tokens = 0;                 // longest sequence; 0: 512 of text, no limit for ids
  bool reference_protocol = false;         // as the paper's program feeds and counts
  bool skip_first_token = false;           // do not count the first token of a sequence
  UnknownKeys unknown_keys = UnknownKeys::kRefused;  // of a recipe
  // The statistics' file, an importance matrix of llama.cpp if it ends in .gguf; empty: the cache.
  std::filesystem::path out;
  GuidanceOptions guidance{};
  // Of a recipe's own texts: measures only this share of their pieces, beside other workers, and
  // keeps them in the cache, which all workers must see (docs/clusters.md). The worker that finds
  // all pieces of a text there adds them up, with the bits of one process.
  std::optional<MergePart> part{};
  bool finish = false;  // measures nothing: adds up, or Error(kUsage) that names what is missing
  // Called with each text's result as soon as it is there; may be empty.
  std::function<void(const CalibratedText&)> finished{};
};

struct CalibrateResult {
  std::vector<CalibratedText> texts;  // in parts: those that are complete
  // In parts: pieces of all texts, those that this worker has measured, and those that are missing.
  uint64_t pieces = 0, pieces_measured = 0, pieces_left = 0;
};

// Throws Error(kUsage): no data, a format that cannot be told; Error(kInput): a model or data that
// cannot be read; Error(kResource): guidance.max_memory is too little.
LEWIS_API CalibrateResult calibrate(const CalibrateJob& job, const RunContext& run = {});

// ---- plan: the densities that LEWIS finds ----

struct MergeDiagnostics;  // size, share kept and conflict of task vectors; see json_text

struct PlanJob {
  RecipePtr recipe;
  std::filesystem::path out;  // the recipe with densities is written here; empty: nowhere
  // Reads all weights for PlanResult::diagnostics, and runs the merge for activation_errors.
  bool diagnostics = false;
  GuidanceOptions guidance{};
};

struct PlannedModel {
  std::string model;             // as the recipe names it
  std::string data;              // the text, or the statistics' file that the recipe gives
  bool from_statistics = false;  // data is the latter
  LayerPlan layers;
  // Means of the densities: over linear layers, over their parameters, and over all parameters of
  // the model, the uncovered ones included. 0 where densities are as written.
  double mean_density = 0, weighted_density = 0, whole_density = 0;
};

struct PlanResult {
  RecipePtr recipe;                  // as it was given
  RecipePtr planned;                 // with densities
  std::string yaml;                  // the same, as `out` has it
  std::vector<PlannedModel> models;  // that are calibrated; empty: densities are as written
  MergeCost cost;                    // of the merge
  std::string compute;     // "f32" or "bf16": the type of the calibrations; "": there were none
  std::string refinement;  // one line about how the merge will be refined; "": it will not
  std::shared_ptr<const MergeDiagnostics> diagnostics;  // null unless they were asked for
  std::vector<std::string> warnings;  // on recipe, models and texts, one line each
  // By expert: how far each layer's output in the merge is from the expert's, relative to it.
  std::vector<ModuleValues> activation_errors;
};

// Throws Error(kUsage): settings of the recipe that do not fit together; and as calibrate does.
LEWIS_API PlanResult plan(const PlanJob& job, const RunContext& run = {});

// ---- merge ----

// Whether adapters are proven to be in what is written (docs/adapters.md).
struct ProofOptions {
  bool wanted = false;
  bool logits = true;           // compare logits as well, where the family is known
  bool force_rounding = false;  // write a model whose type loses half of a change, too
};

struct MergeJob {
  RecipePtr recipe;
  std::filesystem::path out;  // folder of the merged model; it appears when it is complete
  bool force = false;         // replace `out` if it exists
  // Go on with OUT.partial, which an interrupted run has left; begin anew where there is none. An
  // OUT that the same job has completed stays as it is (MergeResult::was_complete).
  bool resume = false;
  bool require_partial = false;  // with `resume`: Error(kUsage) where there is none
  // Writes only this share of the shards into OUT.partial, beside other workers, here or on other
  // machines (docs/clusters.md). What is finished is taken over, as with `resume`. The worker that
  // finds all shards there puts them together. A recipe that refines is an Error(kUsage).
  std::optional<MergePart> part;
  bool finish = false;                   // writes no shard: puts the shares together
  bool no_guidance = false;              // ignore the lewis: section: densities as written
  bool no_tokenizer = false;             // do not copy the tokenizer's files
  uint64_t shard_bytes = 5'000'000'000;  // largest shard
  uint64_t seed = 0;                     // of random masks (dare)
  // What stands in OUT for models that are folders here: the id of base_model, and ids of the hub
  // by the name that the recipe writes or by its last part (docs/hub.md).
  std::string base_model_id;
  std::map<std::string, std::string> model_ids;
  // Where the page about the merge is written; unset: no page; empty: OUT/report.html.
  std::optional<std::filesystem::path> report;
  GuidanceOptions guidance{};  // its max_memory holds for the merge as well
  // Error(kVerify) before OUT has its name when a change of an adapter is not in it.
  ProofOptions prove{};
};

// One of several models that a recipe makes (outputs), and the share that each model has in it.
// Models without a share are left out.
struct OutputWeights {
  std::string name, words;  // words: how the weights were made, one line
  std::vector<std::pair<std::string, double>> shares;
};
struct MergedOutput {
  OutputWeights weights;
  std::filesystem::path out;  // OUT/NAME
  MergeReport tensors;
  bool was_complete = false;  // as in MergeResult
  std::filesystem::path report;
};

struct MergeResult {
  std::filesystem::path out;
  MergeReport tensors;       // of all outputs, where there are some; bytes are read once for all
  size_t guided_models = 0;  // whose densities were found by calibration
  std::string compute;       // as in PlanResult
  double seconds = 0;        // without the report
  std::filesystem::path report;       // empty: none was written
  bool was_complete = false;          // by an earlier run of the same job; nothing was merged
  std::vector<MergedOutput> outputs;  // of a recipe with outputs: each is a model in OUT/NAME
  std::vector<AdapterProof> proofs;   // MergeJob::prove: one per model with an adapter
};

// A recipe with outputs is merged in one pass: OUT is a folder of models then, each of which
// appears when it is complete, and those that are complete already are left as they are with
// `resume`.
//
// Calibrates and plans if the recipe asks for it, merges, refines if it asks for it. Throws
// Error(kUsage): OUT exists, or lies inside a model; Error(kInput): models that do not fit
// together, a value that is not finite; Error(kResource): disk or max_memory is too little. After
// any error nothing named OUT has changed; only after Error(kInterrupted) OUT.partial stays, for
// `resume`. With `part` and `finish` it always stays, and Error(kVerify) names shards whose bytes
// have changed since they were written: the next worker of their part writes them anew.
LEWIS_API MergeResult merge(const MergeJob& job, const RunContext& run = {});

// The recipe that writes one model with its adapters, one applied after the other; each is a folder
// or in the hub's cache. `dtype`: as recipes spell it, "bfloat16"; empty: as the model is stored.
// Throws as make_recipe.
LEWIS_API RecipePtr adapter_recipe(const std::string& model,
                                   const std::vector<std::string>& adapters,
                                   const std::string& dtype = {});

// Whether a model that any program has merged holds adapters.
struct ProveJob {
  std::filesystem::path model;                  // the merged one
  std::filesystem::path base;                   // what it was made of
  std::vector<std::filesystem::path> adapters;  // one or more, in the order of merging
  bool logits = true;
  GuidanceOptions guidance{};
};
// Compares tensor by tensor, and logits where the family is known. Of several adapters it compares
// what all of them ask for together, with the factors of the last beside the layers for logits. A
// model that does not hold that is a result, no error; its first line names the adapters without
// which it holds the others. Throws Error(kUsage): no adapter is named; Error(kInput): a model or
// adapter that cannot be read.
LEWIS_API AdapterProof prove(const ProveJob& job, const RunContext& run = {});

// What merge() would take, with the speed that this disk has now.
struct MergeForecast {
  std::filesystem::path out;
  MergeCost cost;
  std::optional<RefineCost> refinement;    // before the merge, not at once with it
  std::string refinement_words;            // one line; "" without refinement
  std::vector<std::string> warnings;       // that merge() would give before it writes
  double read_speed = 0, write_speed = 0;  // bytes per second
  double seconds = 0;                      // of the merge, without calibration and refinement
  uint64_t disk_free = 0;
  std::vector<OutputWeights> outputs;
};
// Checks all that merge() can check before it reads weights, and throws as it does.
LEWIS_API MergeForecast forecast(const MergeJob& job, const RunContext& run = {});

// The value of each parameter for one tensor of the output, and the line of the recipe that says
// so; one line each. Runs the calibrations that the recipe asks for.
LEWIS_API std::vector<std::string> explain(const MergeJob& job, const std::string& tensor,
                                           const RunContext& run = {});

// ---- merge from memory ----

struct TensorMergeJob {
  RecipePtr recipe;  // made with the models' names as make_recipe's in_memory
  // By name in the recipe. They must outlive the call. Models that are missing here are opened as
  // folders.
  std::map<std::string, std::shared_ptr<const TensorSource>> models;
  uint64_t seed = 0;  // of random masks
};
// Gets every tensor of the output, sorted by name. The bytes are valid during the call.
using TensorSink = std::function<void(const TensorInfo&, std::span<const std::byte>)>;

// Merges tensor after tensor, and reads the inputs of the next one meanwhile; no others are in
// memory. The bytes are those that merge() would write. Throws Error(kUsage) for a recipe that
// needs more than tensors (calibration, refinement, tokenizer settings), else as merge does; and
// what the sink throws.
LEWIS_API void merge_tensors(const TensorMergeJob& job, const TensorSink& sink,
                             const RunContext& run = {});

// ---- evaluate ----

struct ModelResults;  // all that is known of a model's evaluation; see json_text

struct EvaluateJob {
  std::vector<std::filesystem::path> models;  // folders, or recipes, merged while they are read
  // NAME, NAME:FILE or NAME:FILE:FORMAT of loss, perplexity, kl, gsm8k, gsm8k_cot, mbpp, humaneval,
  // ifeval; or FILE.yaml, a task of your own (docs/tasks.md).
  std::vector<std::string> tasks;
  TaskSettings settings{};  // of every task
  // Results of other runs, of lewis or of lm-evaluation-harness, to compare with.
  std::vector<std::filesystem::path> other_results;
  std::string baseline;          // one of the models or results; "": nothing is compared
  std::filesystem::path expert;  // task kl: the model whose distributions are the reference
  // A recipe with lewis.calibration: activation errors of each model against its experts.
  std::filesystem::path layers;
  UnknownKeys unknown_keys = UnknownKeys::kRefused;  // of all these recipes
  std::filesystem::path output;  // folder of the results; empty: nothing is written
  bool log_samples = false;      // write every item there as well
  bool no_resume = false;        // run all items, whatever an earlier run has finished
  // Runs only this share of the items, beside other workers with the same `output`, and writes
  // no results (docs/clusters.md). Any later call takes the items over.
  std::optional<MergePart> part{};
  bool finish = false;  // runs nothing: writes the results, or Error(kUsage) that names what is
                        // missing
  bool allow_unsandboxed = false;  // run programs even where a layer of the sandbox is missing
  GuidanceOptions guidance{};
};

// A difference to the baseline on the items that both have: in the metric's own unit, or in nats
// for perplexity.
struct ScoreDifference {
  double difference = 0, low = 0, high = 0;  // with its 95 % interval
  double p = 1;                              // corrected for all comparisons of the call (Holm)
  bool shown = false;                        // the difference is significant (docs/evaluation.md)
};

struct TaskScore {
  std::string model, task, metric, filter;
  double value = 0;
  std::optional<double> standard_error;
  size_t items = 0;
  bool higher_is_better = false;
  std::optional<ScoreDifference> difference;
};

// Activation errors of one model against the experts of EvaluateJob::layers.
struct LayerErrors {
  std::string model;
  std::vector<ModuleValues> experts;
};

struct EvaluateResult {
  std::vector<TaskScore> scores;             // model by model, task by task
  std::vector<LayerErrors> layers;           // empty unless they were asked for
  std::vector<std::filesystem::path> files;  // that were written
  std::vector<Notice> notices;               // all that RunContext::notice got
  std::shared_ptr<const std::vector<ModelResults>> models;
  std::optional<size_t> baseline;  // into models
  // Of a part: its items, and those that it has run; the rest is another worker's, or was there.
  uint64_t part_items = 0, part_items_run = 0;
};

// Throws Error(kUsage): nothing to do, an unknown task or baseline, programs without a sandbox;
// Error(kInput): a model, data or results that cannot be read.
LEWIS_API EvaluateResult evaluate(const EvaluateJob& job, const RunContext& run = {});

// ---- report: one page about a merge ----

struct ReportJob {
  std::filesystem::path out;                // the merged model
  std::filesystem::path file;               // of the page; empty: OUT/report.html
  std::filesystem::path figures;            // folder of the figures as SVG; empty: none
  std::vector<std::filesystem::path> eval;  // results of evaluate or of lm-evaluation-harness
  bool card = false;                        // write the scores into OUT/README.md as well
  bool diagnostics = true;                  // read the weights, run the models once more
  // The recipe that was merged, or null. OUT has no paths: where it names a folder by its last
  // part, this says which one it was. Without it, they are looked for as those of any recipe.
  RecipePtr recipe{};
  GuidanceOptions guidance{};  // how they are run
};

struct ReportResult {
  std::filesystem::path report;
  uint64_t bytes = 0;  // of the page
  std::vector<std::filesystem::path> figures;
  std::vector<std::string> missing;  // what the page cannot show, and why; one line each
  std::shared_ptr<const MergeDiagnostics> diagnostics;  // null where they are missing
};

// Throws Error(kInput): OUT was not written by lewis, or a file is not what it must be.
LEWIS_API ReportResult report(const ReportJob& job, const RunContext& run = {});

// ---- tune: the numbers that a recipe leaves open ----

struct TuneOptions {
  size_t evaluations = 24;    // merges that are scored while searching
  uint64_t samples = 96;      // items of each calibration entry's data; 0: all
  double held_out = 1.0 / 3;  // share of them that the search does not see
  uint64_t seed = 0;          // decides which items those are
  bool plain_mean = false;    // objective: the mean loss, not relative to base and expert
  bool force = false;         // take data that is named as a test set
  GuidanceOptions guidance{};
};

struct TuneJob {
  std::filesystem::path recipe;  // its open numbers are written {search: [LOW, HIGH]}
  std::filesystem::path out;     // the recipe with plain values; OUT.journal.jsonl beside it
  UnknownKeys unknown_keys = UnknownKeys::kRefused;
  TuneOptions options{};
};

struct TunedValue {
  std::string path;  // "parameters.lambda"
  // Where the recipe names options, start and found are places among them.
  double low = 0, high = 0, start = 0, found = 0;
  std::vector<std::string> options{};
  // What was found minus the same with this value alone at its start, on the held-out items, with
  // its 95 % interval; below 0 is better. 0 where found is start.
  double worth = 0, worth_low = 0, worth_high = 0;
};
// Mean answer losses in nats on the held-out items of one calibration entry.
struct TunedLoss {
  std::string model;
  size_t items = 0;
  double base = 0, expert = 0, start = 0, found = 0;
};

struct TuneResult {
  std::filesystem::path out;
  std::vector<TunedValue> values;
  std::vector<TunedLoss> losses;
  size_t evaluations = 0;             // merges that the search scored, those of the journal too
  size_t taken_over = 0;              // answers that the journal held
  std::vector<std::string> warnings;  // on models and texts, one line each
  double start_objective = 0, objective = 0;  // on the items that the search sees
  // found - start on the held-out items with its 95 % interval; below 0 is better.
  double gain = 0, gain_low = 0, gain_high = 0;
};

// Throws Error(kUsage): no range, no calibration data, data that is named as a test set, an expert
// that is no better than the base on its own text. After Error(kInterrupted) the journal stays, and
// the same job goes on from there.
LEWIS_API TuneResult tune(const TuneJob& job, const RunContext& run = {});

// ---- results as JSON ----

// The objects that `lewis VERB --json` prints, indented by two spaces, without a last newline.
LEWIS_API std::string json_text(const CalibrateResult& result);
LEWIS_API std::string json_text(const CalibratedText& result);
LEWIS_API std::string json_text(const PlanResult& result);
LEWIS_API std::string json_text(const MergeResult& result);
LEWIS_API std::string json_text(const MergeForecast& result);
LEWIS_API std::string json_text(const AdapterProof& result);
LEWIS_API std::string json_text(const EvaluateResult& result);
LEWIS_API std::string json_text(const ReportResult& result);
LEWIS_API std::string json_text(const TuneResult& result);

// The version of the library, "0.1.0".
LEWIS_API std::string version();

}  // namespace lewis
