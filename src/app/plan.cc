// The verb plan: the densities that LEWIS finds for a recipe, and the cost of the merge.
#include <algorithm>

#include "app/activation_errors.h"
#include "app/guidance.h"
#include "app/outputs.h"
#include "app/refinement.h"
#include "app/run.h"
#include "app/tokenizers.h"
#include "base/error.h"
#include "io/file.h"
#include "merge/diagnostics.h"
#include "merge/engine.h"
#include "plan/covered.h"

namespace lewis {
namespace {

void set_mean_densities(PlannedModel& planned, const TensorSource& expert, double uncovered) {
  const LayerValues& densities = planned.layers.density;
  double covered = 0, all = 0;
  for (const TensorInfo& t : expert.tensors()) all += static_cast<double>(element_count(t.shape));
  double plain = 0, weighted = 0;
  for (const auto& [module, density] : densities) {
    const auto count = static_cast<double>(element_count(weight_of(expert, module).shape));
    plain += density / static_cast<double>(densities.size());
    weighted += density * count;
    covered += count;
  }
  if (covered == 0) return;  // densities as written
  planned.mean_density = plain;
  planned.whole_density = (weighted + uncovered * (all - covered)) / all;
  planned.weighted_density = weighted / covered;
}

PlannedModel planned_model(const Recipe& recipe, const ModelPlan& plan) {
  const RecipeModel& model = recipe.models[plan.model];
  const auto entry =
      std::ranges::find(recipe.lewis->calibration, plan.model, &CalibrationEntry::index);
  PlannedModel planned;
  planned.model = model.model;
  planned.from_statistics = entry->has_statistics();
  planned.data = (entry->has_statistics() ? entry->model_statistics : entry->data).string();
  planned.layers = plan;
  set_mean_densities(planned,
                     *open_input(model, {.tokenizers = change_tokenizer, .gguf = open_gguf}).source,
                     recipe.lewis->uncovered);
  return planned;
}

// Only where the recipe says which expert is to be reproduced on what text.
std::vector<ModuleValues> errors_of_plan(const PlanJob& job, const Recipe& planned,
                                         RunResources& run) {
  if (!planned.lewis || planned.lewis->calibration.empty()) return {};
  auto plain = std::make_shared<Recipe>(planned);
  plain->lewis->refine.reset();
  RecipeModel merged;
  merged.model = planned.file.string();
  merged.stage = std::move(plain);
  return activation_errors(planned, merged, job.guidance, run.threads, run.progress, run.note);
}

}  // namespace

PlanResult plan(const PlanJob& job, const RunContext& context) {
  const Recipe& recipe = needed(job.recipe);
  check_plan_settings(recipe);
  if (!job.out.empty()) check_output(job.out);
  RunResources run(context);
  PlanResult result;
  result.recipe = job.recipe;
  // The cost comes first, since it checks what can be checked early.
  MergePreview preview =
      preview_merge(recipe, {.tokenizers = change_tokenizer, .gguf = open_gguf}, run.threads);
  tell_all(run.note, preview.notes);
  result.cost = preview.cost;
  const Guidance guidance = guide(recipe, job.guidance, run.threads, run.progress, run.note);
  if (job.diagnostics) {
    result.diagnostics = std::make_shared<const MergeDiagnostics>(diagnose(
        MergeInputs(guidance.recipe, open_options(run.threads)), run.threads, run.progress));
    result.activation_errors = errors_of_plan(job, guidance.recipe, run);
  }
  result.yaml = planned_yaml(guidance.recipe);
  if (!job.out.empty()) write_file_durably(job.out, result.yaml);
  result.compute = calibration_type(guidance, recipe, job.guidance);
  for (const ModelPlan& plan : guidance.plans) result.models.push_back(planned_model(recipe, plan));
  if (refines(recipe)) result.refinement = describe_refinement(recipe);
  result.planned = std::make_shared<const Recipe>(guidance.recipe);
  result.warnings = *run.notes;
  return result;
}

}  // namespace lewis
