// The verb merge: calibrate if asked, plan, refine if asked, merge, record, report.
#include <algorithm>

#include "app/guidance.h"
#include "app/outputs.h"
#include "app/refinement.h"
#include "app/run.h"
#include "app/run_record.h"
#include "app/tokenizers.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "io/checkpoint.h"
#include "io/disk.h"
#include "merge/engine.h"
#include "merge/inputs.h"
#include "merge/model_origin.h"

namespace lewis {
namespace {

MergeOptions options_of(const MergeJob& job) {
  return {.out = job.out,
          .resume = job.resume || job.require_partial,
          .require_partial = job.require_partial,
          .force = job.force,
          .shard_bytes = job.shard_bytes,
          .seed = job.seed,
          .no_tokenizer = job.no_tokenizer,
          .max_memory = job.guidance.max_memory,
          .tokenizers = change_tokenizer};
}

std::filesystem::path beside(const std::filesystem::path& out, std::string_view suffix) {
  const std::filesystem::path normal = out.lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).string() + std::string(suffix);
}

// What an interrupted run leaves: the refined blocks, and the shards that are finished.
constexpr std::string_view kRefinedPartial = ".refined.partial", kPartial = ".partial";

// The recipe as this job wants it, with everything checked that can be before weights are read.
struct CheckedRecipe {
  Recipe recipe;
  MergeCost cost;
};

// Before the calibration, which may take an hour. Tells the notes on the merge.
CheckedRecipe checked(const MergeJob& job, RunResources& run) {
  CheckedRecipe c{needed(job.recipe), {}};
  if (job.no_guidance) c.recipe.lewis.reset();
  check_plan_settings(c.recipe);
  if (job.require_partial && !std::filesystem::exists(beside(job.out, kPartial)) &&
      !std::filesystem::exists(beside(job.out, kRefinedPartial))) {
    throw usage_error("{}: there is nothing to resume", beside(job.out, kPartial).string());
  }
  const MergeOptions options = options_of(job);
  const MergePreview preview = preview_merge(c.recipe, options, run.threads);
  c.cost = preview.cost;
  check_merge_target(c.recipe, options);
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
    if (refinement) refinement->journal->keep();
    throw;
  }
}

// "norm_shift -> min_max, protocol clean, gamma 0.3, epsilon 0.8, uncovered 1".
std::string settings_of(const LewisSection& s) {
  return fmt::format("{} -> {}, protocol {}, gamma {}, epsilon {}, uncovered {}",
                     name_of(s.importance), name_of(s.allocation), name_of(s.protocol), s.gamma,
                     s.epsilon, s.uncovered);
}

// The text of OUT/lewis_run.json. `recipe`: as the user wrote it.
std::string record_text(const MergeJob& job, const Recipe& recipe, const Guidance& guidance,
                        const MergeReport& report, const RunResources& run, RunClock& clock) {
  RunRecord record;
  clock.end_phase("write the small files");
  clock.fill(record);
  record.recipe_file = recipe.file.string();
  record.recipe = recipe.text;
  record.threads = run.threads.count();
  record.chart.memory_budget = job.guidance.max_memory;
  record.merge = report;
  record.merge.warnings = *run.notes;
  record.compute = calibration_type(guidance, recipe, job.guidance);
  if (!guidance.plans.empty()) record.settings = settings_of(*recipe.lewis);
  for (const ModelPlan& plan : guidance.plans) {
    const auto entry =
        std::ranges::find(recipe.lewis->calibration, plan.model, &CalibrationEntry::index);
    record.guidance.push_back(
        {recipe.models[plan.model].model,
         (entry->has_statistics() ? entry->model_statistics : entry->data).string(),
         plan.importance, plan.density});
  }
  return dump_json(to_json(record), 1) + "\n";
}

// Licences that contradict each other are said before hours of work.
void tell_licence(const Recipe& recipe, const RunContext& context) {
  const Licence licence = derived_licence(model_origins(recipe));
  if (context.notice && licence.verdict == LicenceVerdict::kContradiction)
    context.notice({true, "lewis: note: " + licence.why});
}

// A file of weights that is on disk, if the recipe has one.
std::optional<std::filesystem::path> stored_weights(const Recipe& recipe) {
  std::optional<std::filesystem::path> found;
  for (size_t i = 0; i < recipe.models.size() && !found; ++i) {
    const RecipeModel& m = recipe.models[i];
    if (m.stage) {
      found = stored_weights(*m.stage);
    } else if (!m.folder.empty() && !m.far) {
      found = Checkpoint::open(m.folder).shard_paths().at(0);
    }
  }
  for (size_t i = 0; i < recipe.modules.size() && !found; ++i)
    found = stored_weights(*recipe.modules[i].recipe);
  return found;
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

MergeResult merge(const MergeJob& job, const RunContext& context) {
  RunClock clock;
  check_outputs(job);
  RunResources run(context);
  const Recipe recipe = checked(job, run).recipe;
  clock.end_phase("open the models and check");
  tell_licence(recipe, context);
  const ProgressFn watched = clock.watch(run.progress);
  const Guidance guidance = guide(recipe, job.guidance, run.threads, watched, run.note);
  MergeOptions options = options_of(job);
  options.progress = watched;
  options.run_record = [&](const MergeReport& so_far) {
    tell_all(run.note, so_far.warnings);
    return record_text(job, recipe, guidance, so_far, run, clock);
  };
  const auto refinement = refine_if_asked(options, guidance.recipe, run);
  if (refinement) tell_all(run.note, describe(refinement->report));
  MergeResult result;
  result.out = job.out;
  result.tensors = merge_keeping(refinement, guidance.recipe, options, run.threads);
  result.tensors.warnings = *run.notes;
  result.guided_models = guidance.plans.size();
  result.compute = calibration_type(guidance, recipe, job.guidance);
  result.seconds = clock.now();
  if (job.report) {
    const ReportJob page{.out = job.out, .file = *job.report, .guidance = job.guidance};
    result.report = report(page, context).report;
  }
  return result;
}

MergeForecast forecast(const MergeJob& job, const RunContext& context) {
  RunResources run(context);
  const auto [recipe, cost] = checked(job, run);
  read_texts(recipe, job.guidance, run.threads, run.note);
  MergeForecast f;
  f.out = job.out;
  f.cost = cost;
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
  const MergeInputs inputs(guidance.recipe, open_options(run.threads, job.seed));
  std::vector<std::string> lines = inputs.explain(inputs.tensor(tensor));
  if (refines(recipe))
    lines.push_back("All of this is before refinement, which solves linear layers anew.");
  return lines;
}

}  // namespace lewis
