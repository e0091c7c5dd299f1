// nuslerp: the arc between two models by their weights; with a base, between their task vectors.
// One vector is the whole tensor; with nuslerp_flatten: false what lies along the last dimension,
// with nuslerp_row_wise: true as well along the first.
#include <cmath>

#include "merge/common/gram.h"

namespace lewis {
namespace {

Along along(const TensorTask& task) {
  if (task.flag("nuslerp_flatten") || task.shape.size() < 2) return Along::kTensor;
  return task.flag("nuslerp_row_wise") ? Along::kColumns : Along::kRows;
}

std::vector<double> arc(const TensorTask& task, const Gram& gram) {
  const double w0 = task.models[0]["weight"], w1 = task.models[1]["weight"];
  const double t = std::abs(w0 + w1) < 1e-6 ? 0.5 : w1 / (w0 + w1);
  const double angle = std::acos(gram.cosine(0, 1));
  const double sine = std::sin(angle);
  if (std::abs(sine) < 1e-8) return {1 - t, t};
  return {std::sin((1 - t) * angle) / sine, std::sin(t * angle) / sine};
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass& pass) {
  auto s = combine_by_gram(task, pass, {.along = along(task), .deltas = pass.has_base()}, arc);
  if (task.models[1]["weight"] == 0 && task.models[0]["weight"] != 0) s->copy_of = 0;
  if (task.models[0]["weight"] == 0 && task.models[1]["weight"] != 0) s->copy_of = 1;
  return s;
}

}  // namespace

extern const MergeMethod kNuslerp = {
    .name = "nuslerp",
    .base = BaseRole::kOptional,
    .min_models = 2,
    .max_models = 2,
    .about =
        "The arc between two models by their weights; with a base, the arc between their task "
        "vectors.",
    .model_parameters = {{"weight"}},
    .whole_parameters = {{"nuslerp_flatten", 1}, {"nuslerp_row_wise", 0}},
    .survey = survey,
    .blend = blend_combination,
    .row_wise = [](const TensorTask& task) { return along(task) == Along::kRows; }};

}  // namespace lewis
