// linear: the weighted mean of the models, or their weighted sum with normalize: false (Wortsman
// et al., "Model soups", arXiv 2203.05482).
#include <cmath>

#include "base/error.h"
#include "merge/method.h"

namespace lewis {
namespace {

struct LinearSurvey : Survey {
  std::vector<float> weights;  // per model
  float divisor = 1;
};

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass&) {
  auto s = std::make_unique<LinearSurvey>();
  double sum = 0;
  size_t active = 0, last = 0;
  for (size_t i = 0; i < task.models.size(); ++i) {
    const double weight = task.models[i]["weight"];
    s->weights.push_back(static_cast<float>(weight));
    sum += weight;
    if (weight != 0) {
      ++active;
      last = i;
    }
  }
  if (task.flag("normalize")) {
    if (std::abs(sum) < 1e-8) {
      throw usage_error(
          "tensor {}: the weights of linear add up to {}, and normalize divides by it", task.name,
          sum);
    }
    s->divisor = static_cast<float>(sum);
  }
  if (active == 1 && s->weights[last] == s->divisor) s->copy_of = static_cast<int>(last);
  return s;
}

LEWIS_VECTORIZED void scale(const float* x, float weight, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = weight * x[i];
}
LEWIS_VECTORIZED void scale_add(const float* x, float weight, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] += weight * x[i];
}
LEWIS_VECTORIZED void divide(float divisor, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] /= divisor;
}

void blend(const TensorTask&, const Survey& survey, const Chunk& chunk, std::span<float> out) {
  const auto& s = static_cast<const LinearSurvey&>(survey);
  scale(chunk.models[0].data(), s.weights[0], out.size(), out.data());
  for (size_t i = 1; i < chunk.models.size(); ++i) {
    scale_add(chunk.models[i].data(), s.weights[i], out.size(), out.data());
  }
  if (s.divisor != 1) divide(s.divisor, out.size(), out.data());
}

}  // namespace

extern const MergeMethod kLinear = {
    .name = "linear",
    .base = BaseRole::kWeighted,
    .about = "The weighted mean of the models, or their weighted sum with `normalize: false`.",
    .paper = "Wortsman et al., \"Model soups\", arXiv 2203.05482",
    .model_parameters = {{"weight"}},
    .whole_parameters = {{"normalize", 1}},
    .survey = survey,
    .blend = blend};

}  // namespace lewis
