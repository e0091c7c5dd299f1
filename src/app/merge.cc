// The verb merge: calibrate if asked, plan, refine if asked, merge, record, report.
#include <algorithm>

#include "app/adapter_proof.h"
#include "app/guidance.h"
#include "app/output_weights.h"
#include "app/outputs.h"
#include "app/refine_together.h"
#include "app/refinement.h"
#include "app/run.h"
#include "app/run_record.h"
#include "app/tokenizers.h"
#include "app/worker_plan.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/disk.h"
#include "io/manifest.h"
#include "merge/engine.h"
#include "merge/inputs.h"
#include "merge/model_origin.h"
#include "merge/public_names.h"
#include "recipe/outputs.h"
#include "text/line_reader.h"

namespace lewis {
namespace {

// The ids that the user gives for folders.
ModelIds ids_of(const MergeJob& job) {
  ModelIds ids(job.model_ids.begin(), job.model_ids.end());
  if (job.base_model_id.empty()) return ids;
  const auto& base = needed(job.recipe).base_model;
  if (!base) {
    throw usage_error(
        "--base-model-id {}: the recipe has no base_model; --model-id NAME=ID names "
        "any other model",
        job.base_model_id);
  }
  ids[base->substr(0, base->find('+'))] = job.base_model_id;
  return ids;
}

MergeOptions options_of(const MergeJob& job) {
  return {.out = job.out,
          .resume = job.resume || job.require_partial,
          .require_partial = job.require_partial,
          .force = job.force,
          .shard_bytes = job.shard_bytes,
          .seed = job.seed,
          .no_tokenizer = job.no_tokenizer,
          .max_memory = job.guidance.max_memory,
          .tokenizers = change_tokenizer,
          .gguf = open_gguf,
          .model_ids = ids_of(job),
          .part = job.part,
          .finish = job.finish};
}

bool is_in_parts(const MergeJob& job) { return job.part || job.finish; }

void check_part(const MergeJob& job, const Recipe& recipe) {
  if (!is_in_parts(job)) return;
  if (job.part && job.finish)
    throw usage_error("--part and --finish exclude each other: --finish writes no shard");
  if (job.part && job.part->index >= job.part->count) {
    throw usage_error("part {} of {}: parts are counted from 0", job.part->index, job.part->count);
  }
  if (refines(recipe)) {
    throw usage_error(
        "{}: refine solves the layers of the whole merge, which is not cut into parts: merge "
        "without --part and --finish, or without lewis.refine (docs/clusters.md: lewis-mpi)",
        recipe.file.string());
  }
}

std::filesystem::path beside(const std::filesystem::path& out, std::string_view suffix) {
  const std::filesystem::path normal = out.lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).string() + std::string(suffix);
}

// What an interrupted run leaves: the refined blocks, and the shards that are finished.
constexpr std::string_view kRefinedPartial = ".refined.partial", kPartial = ".partial";

// A model that the job writes: OUT, or one of the recipe's outputs.
struct WantedModel {
  std::filesystem::path out;
  std::string job;            // a hash of all that was asked for
  bool was_complete = false;  // `out` is what this job made before
};

// The recipe as this job wants it, with everything checked that can be before weights are read.
struct CheckedRecipe {
  Recipe recipe;
  MergeCost cost;
  std::vector<WantedModel> models;  // one, or as Recipe::outputs
};

void add_data_hashes(const Recipe& recipe, Json& hashes) {
  for (const RecipeModel& model : recipe.models) {
    if (model.stage) add_data_hashes(*model.stage, hashes);
  }
  for (const RecipeModule& module : recipe.modules) add_data_hashes(*module.recipe, hashes);
  if (!recipe.lewis) return;
  for (const CalibrationEntry& e : recipe.lewis->calibration) {
    if (e.has_statistics()) {
      hashes.push_back(data_file_hash(e.base_statistics));
      hashes.push_back(data_file_hash(e.model_statistics));
    } else {
      hashes.push_back(data_file_hash(e.data));
    }
  }
}

// All that decides the bytes of OUT, known before the calibration.
std::string hash_of_job(const MergeJob& job, const Recipe& recipe, const std::string& plan) {
  Json all = {
      {"plan", plan}, {"compute", static_cast<int>(job.guidance.compute)}, {"data", Json::array()}};
  add_data_hashes(recipe, all["data"]);
  return sha256_hex(dump_json(all));
}

// Returns whether a model is what the same job made before, as far as can be seen without reading
// its weights. Throws where it is of another job, or was changed since.
bool is_complete(const MergeJob& job, const WantedModel& model) {
  const auto& [out, hash, _] = model;
  // Of several workers, the last may have completed it before this one began; of several outputs,
  // some may be complete when a run is interrupted.
  const bool several = !needed(job.recipe).outputs.empty();
  const bool resumes =
      several ? job.resume || job.require_partial : job.resume && !job.require_partial;
  if (!is_in_parts(job) && (!resumes || job.force)) return false;
  const std::filesystem::path file = out / kManifestName;
  if (!std::filesystem::exists(file)) return false;
  const Manifest manifest = read_manifest(file);
  if (!manifest.about->contains("job") || (*manifest.about)["job"] != hash) {
    if (job.force) return false;
    throw usage_error(
        "{}: exists already, and is of another merge: its recipe, models, data, options or version "
        "of lewis differ; --force replaces it",
        out.string());
  }
  verify_sizes(out);
  return true;
}

// Where the models of the job are, and what was asked of each.
std::vector<WantedModel> wanted_models(const MergeJob& job, const Recipe& recipe,
                                       const std::vector<std::string>& plans) {
  std::vector<WantedModel> models;
  for (size_t i = 0; i < plans.size(); ++i) {
    models.push_back({recipe.outputs.empty() ? job.out : folder_of_output(job.out, recipe, i),
                      hash_of_job(job, recipe, plans[i])});
    WantedModel& model = models.back();
    model.was_complete = is_complete(job, model);
    try {
      MergeOptions options = options_of(job);
      options.out = model.out;
      if (!model.was_complete) check_merge_target(recipe, options);
    } catch (const Error&) {
      // Another worker may have completed it since.
      model.was_complete = is_in_parts(job) && is_complete(job, model);
      if (!model.was_complete) throw;
    }
  }
  return models;
}

// What only a recipe with outputs may be asked for, or must not.
void check_several(const MergeJob& job, const Recipe& recipe) {
  if (recipe.outputs.empty()) return;
  for (const std::string_view file : {kManifestName, std::string_view("config.json")}) {
    if (std::filesystem::exists(job.out / file)) {
      throw usage_error(
          "{}: is a model (it has {}); the recipe has outputs, so OUT is the folder "
          "that their folders are made in",
          job.out.string(), file);
    }
  }
  if (job.report && !job.report->empty()) {
    throw usage_error(
        "--report {}: every output has a page of its own, OUT/NAME/report.html; give "
        "--report without a file",
        job.report->string());
  }
}

// Whether an earlier run has left something to go on with.
bool is_begun(const MergeJob& job, const Recipe& recipe) {
  const auto begun = [](const std::filesystem::path& out) {
    return std::filesystem::exists(beside(out, kPartial)) ||
           std::filesystem::exists(beside(out, kRefinedPartial));
  };
  if (recipe.outputs.empty()) return begun(job.out);
  for (size_t i = 0; i < recipe.outputs.size(); ++i) {
    if (begun(folder_of_output(job.out, recipe, i))) return true;
  }
  return false;
}

// Before the calibration, which may take an hour. Tells the notes on the merge.
CheckedRecipe checked(const MergeJob& job, RunResources& run) {
  CheckedRecipe c{needed(job.recipe), {}, {}};
  if (job.no_guidance) c.recipe.lewis.reset();
  check_plan_settings(c.recipe);
  check_part(job, c.recipe);
  check_several(job, c.recipe);
  if (job.require_partial && !is_begun(job, c.recipe)) {
    throw usage_error("{}: there is nothing to resume", beside(job.out, kPartial).string());
  }
  const MergeOptions options = options_of(job);
  const MergePreview preview = preview_merge(c.recipe, options, run.threads);
  c.cost = preview.cost;
  c.models = wanted_models(job, c.recipe, preview.plans);
  tell_all(run.note, preview.notes);
  return c;
}

// Refines into a folder beside OUT.partial, which stays until the model is written.
std::optional<Refinement> refine_if_asked(MergeOptions& options, const Recipe& recipe,
                                          RunResources& run) {
  if (!refines(recipe)) return std::nullopt;
  const std::filesystem::path scratch = beside(options.out, kRefinedPartial);
  const bool written = std::filesystem::exists(beside(options.out, kPartial));
  Refinement refinement =
      run_refinement(recipe, {scratch, options.resume, options.seed, options.max_memory},
                     run.threads, options.progress, run.note);
  options.refined = refinement.refined;
  if (!written) options.resume = options.require_partial = false;  // interrupted before it wrote
  return refinement;
}

// The refined blocks survive whatever keeps the model from being written.
MergeReport merge_keeping(const std::optional<Refinement>& refinement, const Recipe& recipe,
                          const MergeOptions& options, Threads& threads) {
  try {
    return merge(recipe, options, threads);
  } catch (const Error&) {
    if (refinement) refinement->keep();
    throw;
  }
}

// "norm_shift -> min_max, protocol clean, gamma 0.3, epsilon 0.8, uncovered 1".
std::string settings_of(const LewisSection& s) {
  return fmt::format("{} -> {}, protocol {}, gamma {}, epsilon {}, uncovered {}",
                     name_of(s.importance), name_of(s.allocation), name_of(s.protocol), s.gamma,
                     s.epsilon, s.uncovered);
}

// What else a run has to say of itself.
struct RunParts {
  std::vector<RefineReport> passes;
  std::vector<AdapterProof> proofs;
};

// The text of OUT/lewis_run.json, without paths of this machine. `recipe`: as the user wrote it.
std::string record_text(const MergeJob& job, const Recipe& recipe, const Guidance& guidance,
                        const RunParts& parts, const MergeReport& report, const RunResources& run,
                        RunClock& clock) {
  const PublicNames names(recipe, ids_of(job));
  RunRecord record;
  clock.end_phase("write the small files");
  clock.fill(record);
  for (Phase& phase : record.chart.phases) phase.name = names.clean(phase.name);
  record.recipe_file = recipe.file.filename().string();
  record.recipe = names.recipe_text();
  record.model_ids = names.ids();
  record.threads = run.threads.count();
  record.chart.memory_budget = job.guidance.max_memory;
  record.refinement = parts.passes;
  record.proofs = public_proofs(parts.proofs, names);
  for (RefineReport& pass : record.refinement) {
    for (BlockResult& block : pass.blocks)
      std::ranges::transform(block.notes, block.notes.begin(),
                             [&](const std::string& note) { return names.clean(note); });
  }
  record.merge = report;
  record.merge.warnings.clear();
  for (const std::string& note : *run.notes) record.merge.warnings.push_back(names.clean(note));
  record.compute = calibration_type(guidance, recipe, job.guidance);
  if (!guidance.plans.empty()) record.settings = settings_of(*recipe.lewis);
  for (const ModelPlan& plan : guidance.plans) {
    const auto entry =
        std::ranges::find(recipe.lewis->calibration, plan.model, &CalibrationEntry::index);
    record.guidance.push_back(
        {names.of(recipe.models[plan.model].model),
         names.of_data((entry->has_statistics() ? entry->model_statistics : entry->data).string()),
         plan.importance, plan.density});
  }
  return dump_json(to_json(record), 1) + "\n";
}

// Licences that contradict each other are said before hours of work.
void tell_licence(const Recipe& recipe, const RunContext& context) {
  const Licence licence = derived_licence(PublicNames(recipe).origins());
  if (context.notice && licence.verdict == LicenceVerdict::kContradiction)
    context.notice({true, "lewis: note: " + licence.why});
}

// OUT is written as OUT.partial.
void check_outputs(const MergeJob& job) {
  if (job.out.empty()) throw usage_error("OUT is empty, expected the name of a folder");
  const std::string partial =
      std::filesystem::path(job.out / "").parent_path().string() + ".partial";
  check_output(std::filesystem::path(partial) / "file", true);
  if (job.report && !job.report->empty()) check_output(*job.report);
}

}  // namespace

namespace {

std::filesystem::path report_of(const MergeJob& job, const WantedModel& model,
                                const RecipePtr& recipe, const RunContext& context) {
  if (!job.report) return "";
  const ReportJob page{
      .out = model.out, .file = *job.report, .recipe = recipe, .guidance = job.guidance};
  return report(page, context).report;
}

// What the run that made a model says of it.
std::optional<RunRecord> record_before(const WantedModel& model) {
  const std::filesystem::path file = model.out / kRunRecordName;
  return std::filesystem::exists(file) ? std::optional(read_run_record(file)) : std::nullopt;
}

// The result of the run that made OUT.
MergeResult result_before(const MergeJob& job, const WantedModel& model, RunResources& run,
                          const RunContext& context) {
  MergeResult result;
  result.out = job.out;
  result.was_complete = true;
  if (job.prove.wanted) result.proofs = prove_merge(job, *job.recipe, job.out, run);
  if (const auto record = record_before(model)) {
    result.tensors = record->merge;
    result.guided_models = record->guidance.size();
    result.compute = record->compute;
  }
  result.report = report_of(job, model, job.recipe, context);
  return result;
}

// The options with which one model of the job is merged. Its record calls on all that is named.
MergeOptions options_of(const MergeJob& job, const WantedModel& model, const Recipe& recipe,
                        const Guidance& guidance, RunResources& run, RunClock& clock,
                        const std::shared_ptr<RunParts>& parts) {
  MergeOptions options = options_of(job);
  options.out = model.out;
  options.job = model.job;
  options.run_record = [&job, recipe, &guidance, &run, &clock, parts](const MergeReport& so_far) {
    tell_all(run.note, so_far.warnings);
    return record_text(job, recipe, guidance, *parts, so_far, run, clock);
  };
  return options;
}

void add(const MergeReport& one, MergeReport& all) {
  all.merged += one.merged;
  all.copied += one.copied;
  all.resumed += one.resumed;
  all.parameters += one.parameters;
  all.bytes_read = std::max(all.bytes_read, one.bytes_read);
  all.bytes_written += one.bytes_written;
  all.shards += one.shards;
  all.complete = all.complete && one.complete;
  all.all_shards += one.all_shards;
  all.shards_left += one.shards_left;
}

// A folder that is there for the length of a merge, unless something stands in it then.
class OutputsFolder {
 public:
  explicit OutputsFolder(std::filesystem::path folder)
      : folder_(std::move(folder)), existed_(std::filesystem::exists(folder_)) {}
  ~OutputsFolder() {
    std::error_code ignored;
    if (!existed_) std::filesystem::remove(folder_, ignored);  // only where it is empty
  }
  OutputsFolder(const OutputsFolder&) = delete;
  OutputsFolder& operator=(const OutputsFolder&) = delete;

 private:
  std::filesystem::path folder_;
  bool existed_;
};

// All outputs of the recipe that are not complete, in one pass.
MergeResult merge_several(const MergeJob& job, const CheckedRecipe& wanted, RunResources& run,
                          RunClock& clock, const RunContext& context) {
  const Recipe& recipe = wanted.recipe;
  const Guidance guidance{};
  const OutputsFolder folder(job.out);
  std::vector<OutputJob> jobs;
  MergeResult result;
  result.out = job.out;
  const auto parts = std::make_shared<RunParts>();
  if (job.prove.wanted) parts->proofs = prove_merge(job, recipe, "", run);
  result.proofs = parts->proofs;
  for (size_t i = 0; i < wanted.models.size(); ++i) {
    const WantedModel& model = wanted.models[i];
    MergedOutput& output = result.outputs.emplace_back();
    output.weights = weights_of(recipe, i);
    output.out = model.out;
    output.was_complete = model.was_complete;
    if (model.was_complete) {
      if (const auto record = record_before(model)) output.tensors = record->merge;
      continue;
    }
    jobs.push_back(
        {i, options_of(job, model, recipe_of_output(recipe, i), guidance, run, clock, parts)});
    jobs.back().options.progress = clock.watch(run.progress);
    jobs.back().options.require_partial = false;
  }
  result.was_complete = jobs.empty();
  if (!jobs.empty()) {
    const std::vector<MergeReport> reports = merge_outputs(recipe, jobs, run.threads);
    for (size_t i = 0; i < jobs.size(); ++i) result.outputs[jobs[i].output].tensors = reports[i];
  }
  for (size_t i = 0; i < result.outputs.size(); ++i) {
    MergedOutput& output = result.outputs[i];
    tell_all(run.note, output.tensors.warnings);
    add(output.tensors, result.tensors);
    const auto one = std::make_shared<const Recipe>(recipe_of_output(recipe, i));
    if (output.tensors.complete) output.report = report_of(job, wanted.models[i], one, context);
  }
  result.tensors.warnings = *run.notes;
  result.seconds = clock.now();
  return result;
}

}  // namespace

MergeResult merge(const MergeJob& job, const RunContext& context) {
  RunClock clock;
  check_outputs(job);
  RunResources run(context);
  const CheckedRecipe wanted = checked(job, run);
  const Recipe& recipe = wanted.recipe;
  const bool several = !recipe.outputs.empty();
  const WantedModel& model = wanted.models[0];
  if (!several && model.was_complete) return result_before(job, model, run, context);
  clock.end_phase("open the models and check");
  tell_licence(recipe, context);
  if (several) return merge_several(job, wanted, run, clock, context);
  const ProgressFn watched = clock.watch(run.progress);
  const Guidance guidance = guide(recipe, job.guidance, run.threads, watched, run.note);
  const auto parts = std::make_shared<RunParts>();
  MergeOptions options = options_of(job, model, recipe, guidance, run, clock, parts);
  options.progress = watched;
  if (job.prove.wanted) {
    check_has_adapters(recipe);
    options.inspect = [&](const std::filesystem::path& folder) {
      parts->proofs = prove_merge(job, recipe, folder, run);
    };
  }
  const auto refinement = refine_if_asked(options, guidance.recipe, run);
  if (refinement) {
    parts->passes = refinement->passes;
    tell_all(run.note, describe(*refinement));
  }
  MergeResult result;
  result.out = job.out;
  result.tensors = merge_keeping(refinement, guidance.recipe, options, run.threads);
  tell_all(run.note, result.tensors.warnings);
  result.tensors.warnings = *run.notes;
  result.guided_models = guidance.plans.size();
  result.compute = calibration_type(guidance, recipe, job.guidance);
  result.seconds = clock.now();
  result.proofs = parts->proofs;
  if (result.tensors.complete) result.report = report_of(job, model, job.recipe, context);
  return result;
}

Refinement refine_together(const MergeJob& job, const Communicator& ranks,
                           const RunContext& context) {
  RunResources run(context);
  const auto prepare = [&]() -> std::optional<Guidance> {
    const CheckedRecipe wanted = checked(job, run);
    if (!refines(wanted.recipe)) {
      throw usage_error("{}: has no lewis.refine, so there is nothing to refine",
                        wanted.recipe.file.string());
    }
    if (ranks.is_first() && wanted.models[0].was_complete) {
      run.note(
          fmt::format("{}: is complete already, there is nothing to refine", job.out.string()));
      return std::nullopt;
    }
    return guide(wanted.recipe, job.guidance, run.threads, run.progress, run.note);
  };
  // The first one measures and fills the cache, where the others find it.
  std::optional<Guidance> guidance;
  if (ranks.is_first()) guidance = prepare();
  std::byte wanted{guidance.has_value()};
  ranks.broadcast(std::span(&wanted, 1), 0);
  if (wanted == std::byte{0}) return {};
  if (!ranks.is_first()) guidance = prepare();
  const std::filesystem::path scratch = beside(job.out, kRefinedPartial);
  return run_refinement(guidance->recipe,
                        {scratch, true, job.seed, job.guidance.max_memory, &ranks}, run.threads,
                        run.progress, run.note);
}

MergeForecast forecast(const MergeJob& job, const RunContext& context) {
  RunResources run(context);
  const auto [recipe, cost, models] = checked(job, run);
  read_texts(recipe, job.guidance, run.threads, run.note);
  MergeForecast f;
  f.out = job.out;
  f.cost = cost;
  for (size_t i = 0; i < recipe.outputs.size(); ++i) f.outputs.push_back(weights_of(recipe, i));
  if (refines(recipe)) {
    f.refinement =
        refinement_cost(recipe, job.seed, job.guidance.max_memory, run.threads, run.note);
    f.refinement_words = describe_refinement(recipe);
  }
  const auto folder = existing_folder(job.out);
  const uint64_t bytes_read = cost.bytes_read - cost.bytes_fetched;
  const DiskSpeed disk = measure_disk(stored_weights(recipe).value_or(recipe.file), folder);
  if (bytes_read > 0) f.read_speed = disk.read;
  f.write_speed = disk.write;
  f.seconds = std::max(static_cast<double>(bytes_read) / disk.read,
                       static_cast<double>(cost.bytes_written) / disk.write);
  f.disk_free = std::filesystem::space(folder).available;
  f.warnings = *run.notes;
  return f;
}

std::vector<std::string> explain(const MergeJob& job, const std::string& tensor,
                                 const RunContext& context) {
  RunResources run(context);
  const Recipe recipe = checked(job, run).recipe;
  const Guidance guidance = guide(recipe, job.guidance, run.threads, run.progress, run.note);
  std::vector<std::string> lines;
  for (size_t i = 0; i < recipe.outputs.size(); ++i) {
    const MergeInputs inputs(recipe_of_output(recipe, i), open_options(run.threads, job.seed));
    lines.push_back("output " + recipe.outputs[i].name);
    std::ranges::copy(inputs.explain(inputs.tensor(tensor)), std::back_inserter(lines));
  }
  if (!recipe.outputs.empty()) return lines;
  const MergeInputs inputs(guidance.recipe, open_options(run.threads, job.seed));
  lines = inputs.explain(inputs.tensor(tensor));
  if (refines(recipe))
    lines.push_back("All of this is before refinement, which solves linear layers anew.");
  return lines;
}

}  // namespace lewis
