#include "app/check.h"

#include <fmt/format.h>

#include "app/output_weights.h"
#include "app/tokenizers.h"
#include "base/error.h"
#include "io/compare.h"
#include "io/model_folder.h"
#include "merge/inputs.h"
#include "merge/model_card.h"
#include "plan/plan.h"

namespace lewis {
namespace {

constexpr int64_t kSample = 1 << 16;      // elements of each tensor that are compared
constexpr double kUnrelatedCosine = 0.9;  // fine-tuned models stay far above

// The difference of a sample of the model's matrices.
TensorDifference sampled_difference(const TensorSource& base, const TensorSource& model,
                                    Threads& threads) {
  TensorDifference sum;
  for (const TensorInfo& t : base.tensors()) {
    const TensorInfo* other = model.find(t.name);
    if (t.shape.size() != 2 || !other || other->shape != t.shape || !is_arithmetic(t.dtype) ||
        !is_arithmetic(other->dtype)) {
      continue;
    }
    sum += compare_tensors(base, model, t.name, kSample, threads);
  }
  return sum;
}

std::string kinship(const TensorDifference& d, const std::string& model, const std::string& base) {
  if (d.norm_difference == 0)
    return fmt::format("{} equals {} wherever it was sampled", model, base);
  if (d.cosine() < kUnrelatedCosine) {
    return fmt::format(
        "{} does not seem to descend from {}: cosine {:.3f}, task vector {:.0f} % as "
        "long as the base; merging task vectors makes no sense then",
        model, base, d.cosine(), 100 * d.relative());
  }
  if (d.relative() > 0.3) {
    return fmt::format("{} is far from {}: the task vector is {:.0f} % as long as the base", model,
                       base, 100 * d.relative());
  }
  return "";
}

}  // namespace

std::vector<std::string> notes_on_model(const Checkpoint& checkpoint, const Threads& threads) {
  RecipeModel model;
  model.model = checkpoint.label();
  model.folder = checkpoint.label();
  try {
    const InputModel opened = open_input(model, open_options(threads));
    std::vector<std::string> notes = opened.notes;
    for (std::string& line : companions_of(opened.files(), true).notes)
      notes.push_back(std::move(line));
    return notes;
  } catch (const Error& e) {
    std::vector<std::string> notes = checkpoint.notes();
    notes.push_back(fmt::format("a merge refuses this model: {}", e.what()));
    return notes;
  }
}

RecipeCheck check_recipe(const Recipe& recipe, Threads& threads) {
  check_plan_settings(recipe);
  OpenOptions options = open_options(threads);
  options.outputs = true;
  const MergeInputs inputs(recipe, options);
  RecipeCheck check;
  for (size_t i = 0; i < recipe.outputs.size(); ++i) check.outputs.push_back(weights_of(recipe, i));
  check.warnings = inputs.warnings();
  for (std::string& line : check_companions(inputs, true))
    check.warnings.push_back(std::move(line));
  check.tensors = inputs.tensors().size();
  if (inputs.tokenizer().plan) check.vocabulary = inputs.tokenizer().plan->rows();
  for (const InputModel* model : inputs.models()) {
    RecipeCheck::Model& checked = check.models.emplace_back();
    checked.name = model->name;
    for (const TensorInfo& t : model->source->tensors()) checked.bytes += byte_size(t);
    if (!recipe.base_index || model->name == inputs.main().name) continue;
    const TensorDifference d = sampled_difference(*inputs.main().source, *model->source, threads);
    checked.cosine_to_base = d.cosine();
    checked.relative_task_vector = d.relative();
    const std::string said = kinship(d, model->label(), inputs.main().label());
    if (!said.empty()) check.warnings.push_back(said);
  }
  return check;
}

}  // namespace lewis
