// slerp: on the arc between the base and one model, the share t of the way (Shoemake, "Animating
// rotation with quaternion curves", 1985). The whole tensor is one vector; lengths are kept.
#include <cmath>

#include "merge/common/gram.h"

namespace lewis {
namespace {

// Coefficients of (model, base). Nearly parallel vectors are mixed along the line, as mergekit
// does.
std::vector<double> arc(const TensorTask& task, const Gram& gram) {
  const double t = task["t"];
  const double cosine = gram.cosine(0, 1);
  if (std::abs(cosine) > 0.9995) return {t, 1 - t};
  const double angle = std::acos(cosine), sine = std::sin(angle);
  return {std::sin(t * angle) / sine, std::sin((1 - t) * angle) / sine};
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass& pass) {
  auto s = combine_by_gram(task, pass, {.with_base = true}, arc);
  if (task["t"] == 0) s->copy_of = Survey::kBaseItself;
  if (task["t"] == 1) s->copy_of = 0;
  return s;
}

}  // namespace

extern const MergeMethod kSlerp = {
    .name = "slerp",
    .base = BaseRole::kApart,
    .max_models = 1,
    .about = "The point on the arc between the base and one model, with both taken as vectors.",
    .paper = "Shoemake, \"Animating rotation with quaternion curves\", SIGGRAPH 1985",
    .whole_parameters = {{"t"}},
    .survey = survey,
    .blend = blend_combination};

}  // namespace lewis
