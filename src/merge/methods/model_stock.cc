// model_stock: between the base and the mean of the models, by the angle between their task vectors
// (Jang et al., "Model Stock", arXiv 2403.19522, equation 2): t = N cos / (1 + (N - 1) cos).
#include <cmath>

#include "merge/common/gram.h"

namespace lewis {
namespace {

bool by_rows(const TensorTask& task) { return task.flag("filter_wise"); }

std::vector<double> stock(const TensorTask&, const Gram& gram) {
  const auto n = static_cast<double>(gram.size());
  double cosine = 0;
  for (size_t i = 0; i < gram.size(); ++i) {
    for (size_t j = i + 1; j < gram.size(); ++j) {
      cosine += gram.cosine(i, j) / (n * (n - 1) / 2);
    }
  }
  const double divisor = 1 + (n - 1) * cosine;
  // Task vectors that cancel out have no common direction: the base stays.
  const double t = std::abs(divisor) < 1e-12 ? 0 : n * cosine / divisor;
  return std::vector<double>(gram.size(), t / n);
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass& pass) {
  const Along along = by_rows(task) ? Along::kRows : Along::kTensor;
  return combine_by_gram(task, pass, {.along = along, .deltas = true}, stock);
}

}  // namespace

extern const MergeMethod kModelStock = {
    .name = "model_stock",
    .base = BaseRole::kApart,
    .min_models = 2,
    .about =
        "The point between the base and the mean of the models that follows from the angle between "
        "their task vectors.",
    .paper = "Jang et al., \"Model Stock\", arXiv 2403.19522, equation 2",
    .whole_parameters = {{"filter_wise", 0}},
    .survey = survey,
    .blend = blend_combination,
    .row_wise = by_rows};

}  // namespace lewis
