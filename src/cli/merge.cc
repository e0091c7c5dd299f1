// lewis merge RECIPE OUT: the whole way, calibrate if asked, plan, merge.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "cli/guidance.h"
#include "cli/refinement.h"
#include "cli/report.h"
#include "cli/run_record.h"
#include "cli/tokenizers.h"
#include "cli/verbs.h"
#include "io/checkpoint.h"
#include "io/disk.h"
#include "merge/engine.h"
#include "merge/inputs.h"

namespace lewis {
namespace {

struct Options {
  std::filesystem::path recipe;
  GuidanceOptions guidance;
  MergeOptions merge;
  std::string shard_size, max_memory;
  std::string explain;  // a tensor
  std::string report;   // file of the report; "true": OUT/report.html; "": none
  bool no_guidance = false, dry_run = false;
  std::shared_ptr<CommonOptions> common;
};

// mergekit's flags that mean nothing here: there is one device, reading is always lazy, writing
// always asynchronous, and no code of a checkpoint is ever run.
void add_mergekit_flags(CLI::App& verb, bool& copy_tokenizer_off) {
  static constexpr const char* kFlags[] = {"--cuda,!--no-cuda",
                                           "--low-cpu-memory,!--no-low-cpu-memory",
                                           "--allow-crimes,!--no-allow-crimes",
                                           "--trust-remote-code,!--no-trust-remote-code",
                                           "--lazy-unpickle,!--no-lazy-unpickle",
                                           "--clone-tensors,!--no-clone-tensors",
                                           "--read-to-gpu,!--no-read-to-gpu",
                                           "--multi-gpu,!--no-multi-gpu",
                                           "--gpu-rich",
                                           "--async-write,!--no-async-write",
                                           "--write-model-card,!--no-write-model-card",
                                           "--safe-serialization,!--no-safe-serialization",
                                           "--verbose,-v"};
  static constexpr const char* kValues[] = {"--transformers-cache", "--lora-merge-cache",
                                            "--lora-merge-dtype",   "--device",
                                            "--write-threads",      "--intermediate-dir"};
  const auto say = [](const std::string& name) {
    fmt::print(stderr, "lewis: {} has no meaning here and is ignored\n", name);
  };
  for (const char* flag : kFlags) {
    const std::string name = std::string(flag).substr(0, std::string(flag).find(','));
    verb.add_flag_callback(
            name, [say, name] { say(name); }, "mergekit's; ignored")
        ->group("mergekit");
    const size_t no = std::string(flag).find('!');
    if (no != std::string::npos) {
      const std::string off = std::string(flag).substr(no + 1);
      verb.add_flag_callback(
              off, [say, off] { say(off); }, "mergekit's; ignored")
          ->group("mergekit");
    }
  }
  for (const char* name : kValues) {
    verb.add_option_function<std::string>(
            name, [say, name](const std::string&) { say(name); }, "mergekit's; ignored")
        ->group("mergekit");
  }
  verb.add_flag(
          "--copy-tokenizer,!--no-copy-tokenizer",
          [&copy_tokenizer_off](int64_t on) { copy_tokenizer_off = on < 0; },
          "Copy the tokenizer's files (default)")
      ->group("mergekit");
}

Json to_json(const RefineCost& cost) {
  return {{"tokens", cost.tokens},
          {"peak_memory", cost.peak_memory},
          {"least_memory", cost.least_memory},
          {"scratch_bytes", cost.disk}};
}

void print_refinement(const RefineCost& cost, const Recipe& recipe) {
  fmt::print(
      "Before that it would be {}: {} tokens.\nRefinement: memory about {}, --max-memory may be {} "
      "or more; {} more of disk until the model is written. Its time is not in the above.\n",
      describe_refinement(recipe), with_commas(cost.tokens), human_bytes(cost.peak_memory),
      human_bytes(cost.least_memory), human_bytes(cost.disk));
}

// What the merge would cost, with the time that this disk would take.
void print_dry_run(const Options& o, const Recipe& recipe, const MergeCost& cost,
                   Threads& threads) {
  std::optional<RefineCost> refine;  // what else; before the merge and not at once with it
  if (refines(recipe)) refine = refinement_cost(recipe, o.merge.seed, o.merge.max_memory, threads);
  const auto folder = existing_folder(o.merge.out);
  const Checkpoint model = Checkpoint::open(source_folders(recipe).at(0));
  const DiskSpeed disk = measure_disk(model.shard_paths().at(0), folder);
  const double seconds = std::max(static_cast<double>(cost.bytes_read) / disk.read,
                                  static_cast<double>(cost.bytes_written) / disk.write);
  const uint64_t available = std::filesystem::space(folder).available;
  if (o.common->json) {
    Json json = {{"bytes_read", cost.bytes_read},
                 {"bytes_written", cost.bytes_written},
                 {"tensors", cost.tensors},
                 {"parameters", cost.parameters},
                 {"peak_memory", cost.peak_memory},
                 {"least_memory", cost.least_memory},
                 {"vocabulary", cost.vocabulary},
                 {"disk_free", available},
                 {"seconds", seconds}};
    if (refine) json["refinement"] = to_json(*refine);
    fmt::print("{}\n", json.dump(2));
    return;
  }
  fmt::print("Would read {} and write {} ({} tensors, {} parameters) to {}.\n",
             human_bytes(cost.bytes_read), human_bytes(cost.bytes_written),
             with_commas(cost.tensors), with_commas(cost.parameters), o.merge.out.string());
  if (cost.vocabulary > 0) {
    fmt::print("Vocabulary: another tokenizer, with {} rows of embeddings.\n",
               with_commas(static_cast<uint64_t>(cost.vocabulary)));
  }
  fmt::print(
      "Memory: about {}; --max-memory may be {} or more.\nDisk: {} needed, {} free.\nTime: about "
      "{}, "
      "as this disk now reads {}/s and writes {}/s.\n",
      human_bytes(cost.peak_memory), human_bytes(cost.least_memory),
      human_bytes(cost.bytes_written), human_bytes(available), human_seconds(seconds),
      human_bytes(static_cast<uint64_t>(disk.read)),
      human_bytes(static_cast<uint64_t>(disk.write)));
  if (refine) print_refinement(*refine, recipe);
}

std::filesystem::path beside(const std::filesystem::path& out, std::string_view suffix) {
  const std::filesystem::path normal = out.lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).string() + std::string(suffix);
}

// Beside OUT.partial: what refinement has finished, until the model is written.
std::optional<Refinement> refine_if_asked(Options& o, const Recipe& recipe, Threads& threads) {
  if (!refines(recipe)) return std::nullopt;
  const std::filesystem::path scratch = beside(o.merge.out, ".refined.partial");
  const bool written = std::filesystem::exists(beside(o.merge.out, ".partial"));
  if (o.merge.resume && !written && !std::filesystem::exists(scratch))
    throw usage_error("{}: there is nothing to resume", scratch.string());
  Refinement refinement =
      run_refinement(recipe, {scratch, o.merge.resume, o.merge.seed, o.merge.max_memory}, threads,
                     o.merge.progress);
  o.merge.refined = refinement.refined;
  if (!written) o.merge.resume = false;  // it was interrupted before it wrote
  return refinement;
}

// The refined blocks survive whatever keeps the model from being written.
MergeReport merge_keeping(const std::optional<Refinement>& refinement, const Recipe& recipe,
                          const MergeOptions& options, Threads& threads) {
  try {
    return merge(recipe, options, threads);
  } catch (const Error&) {
    if (refinement) refinement->journal->keep();
    throw;
  }
}

// "norm_shift -> min_max, protocol clean, gamma 0.3, epsilon 0.8, uncovered 1".
std::string settings_of(const LewisSection& s) {
  return fmt::format("{} -> {}, protocol {}, gamma {}, epsilon {}, uncovered {}", s.importance,
                     s.allocation, s.protocol, s.gamma, s.epsilon, s.uncovered);
}

// The text of OUT/lewis_run.json. `recipe`: as the user wrote it.
std::string record_text(const Options& o, const Recipe& recipe, const Guidance& guidance,
                        const MergeReport& report, size_t threads, RunClock& clock) {
  RunRecord record;
  clock.end_phase("write the small files");
  clock.fill(record);
  record.recipe_file = o.recipe.string();
  record.recipe = recipe.text;
  record.threads = threads;
  record.chart.memory_budget = o.merge.max_memory;
  record.merge = report;
  record.compute = calibration_type(guidance, recipe, o.guidance);
  if (!guidance.plans.empty()) record.settings = settings_of(*recipe.lewis);
  for (const ModelPlan& plan : guidance.plans) {
    const auto entry =
        std::ranges::find(recipe.lewis->calibration, plan.model, &CalibrationEntry::index);
    record.guidance.push_back(
        {recipe.models[plan.model].model,
         (entry->has_statistics() ? entry->model_statistics : entry->data).string(),
         plan.importance, plan.density});
  }
  return to_json(record).dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Where the report was written.
std::string report_of(const Options& o, Threads& threads, const ProgressFn& progress) {
  ReportOptions options{.out = o.merge.out, .guidance = o.guidance};
  if (o.report != "true") options.file = o.report;
  return write_report(options, threads, progress)["report"].get<std::string>();
}

void run_merge(Options& o) {
  RunClock clock;
  Threads threads(o.common->threads);
  ProgressPrinter progress(o.common->quiet);
  Recipe recipe = read_recipe(o.recipe);
  if (o.no_guidance) recipe.lewis.reset();
  check_plan_settings(recipe);
  if (!o.shard_size.empty()) {
    o.merge.shard_bytes = parse_bytes(o.shard_size, "--out-shard-size");
  }
  if (!o.max_memory.empty()) o.merge.max_memory = parse_bytes(o.max_memory, "--max-memory");
  o.guidance.max_memory = o.merge.max_memory;
  const MergeCost cost = merge_cost(recipe, threads.count(), o.merge.max_memory, change_tokenizer);
  check_merge_target(recipe, o.merge);  // before the calibration: an hour later is too late
  if (o.dry_run) return print_dry_run(o, recipe, cost, threads);
  clock.end_phase("open the models and check");
  const ProgressFn watched = clock.watch(progress.callback());
  const Guidance guidance = guide(recipe, o.guidance, threads, watched);
  if (!o.explain.empty()) {
    const MergeInputs inputs(guidance.recipe, open_options(threads, o.merge.seed));
    for (const std::string& line : inputs.explain(inputs.tensor(o.explain)))
      fmt::print("{}\n", line);
    if (refines(recipe))
      fmt::print("All of this is before refinement, which solves linear layers anew.\n");
    return;
  }
  o.merge.progress = watched;
  o.merge.tokenizers = change_tokenizer;
  o.merge.run_record = [&](const MergeReport& so_far) {
    return record_text(o, recipe, guidance, so_far, threads.count(), clock);
  };
  const std::optional<Refinement> refinement = refine_if_asked(o, guidance.recipe, threads);
  MergeReport report = merge_keeping(refinement, guidance.recipe, o.merge, threads);
  if (refinement)
    std::ranges::copy(describe(refinement->report), std::back_inserter(report.warnings));
  const double seconds = clock.now();
  const std::string page = o.report.empty() ? "" : report_of(o, threads, progress.callback());
  for (const std::string& warning : report.warnings)
    fmt::print(stderr, "lewis: note: {}\n", warning);
  if (o.common->json) {
    Json json = {{"out", o.merge.out.string()},     {"merged", report.merged},
                 {"copied", report.copied},         {"refined", report.refined},
                 {"resumed", report.resumed},       {"parameters", report.parameters},
                 {"bytes_read", report.bytes_read}, {"bytes_written", report.bytes_written},
                 {"shards", report.shards},         {"guided_models", guidance.plans.size()},
                 {"warnings", report.warnings},     {"seconds", seconds}};
    if (!page.empty()) json["report"] = page;
    fmt::print("{}\n", json.dump(2));
    return;
  }
  const std::string resumed = report.resumed ? fmt::format(", {} taken over", report.resumed) : "";
  const std::string refined = report.refined ? fmt::format(", {} refined", report.refined) : "";
  fmt::print("{}: {} tensors: {} merged, {} copied{}{}; {} in {} shard{}, {}\n",
             o.merge.out.string(), report.merged + report.copied + report.refined + report.resumed,
             report.merged, report.copied, refined, resumed, human_bytes(report.bytes_written),
             report.shards, report.shards == 1 ? "" : "s", human_seconds(seconds));
  const std::string type = calibration_type(guidance, recipe, o.guidance);
  if (!type.empty()) fmt::print("densities from calibration, linear layers in {}\n", type);
  if (!page.empty()) fmt::print("{}\n", page);
}

}  // namespace

void add_merge_verb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("merge", "Merge the models of a recipe: calibrate if asked, plan, merge");
  verb->add_option("--explain", o->explain,
                   "Say which value each parameter has for a tensor, and why; do nothing else");
  verb->add_option("RECIPE", o->recipe, "mergekit recipe, with a lewis: section for guidance")
      ->required();
  verb->add_option("OUT", o->merge.out, "Folder of the merged model")->required();
  verb->add_flag("--force", o->merge.force, "Replace OUT if it exists");
  verb->add_flag("--resume", o->merge.resume,
                 "Go on with OUT.partial, which an interrupted run of the same merge has left");
  verb->add_flag("--dry-run", o->dry_run, "Check everything, say what would be done, do nothing");
  verb->add_flag("--no-guidance", o->no_guidance,
                 "Ignore the lewis: section: densities as written");
  verb->add_option("--out-shard-size", o->shard_size,
                   "Largest shard in bytes (K, M, B: decimal); default 5B");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory (K, M, B: decimal): kept, or refused before any work");
  verb->add_option("--random-seed,--seed", o->merge.seed, "Seed of random masks (dare)");
  verb->add_option("--cache", o->guidance.cache, "Folder of the statistics' cache");
  verb->add_flag("--report{true}", o->report,
                 "Write OUT/report.html, a page about the merge; or --report=FILE");
  add_compute_option(*verb, o->guidance.compute);
  add_mergekit_flags(*verb, o->merge.no_tokenizer);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_merge(*o); });
}

}  // namespace lewis
