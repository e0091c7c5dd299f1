// multislerp: the weighted mean of directions on the sphere, taken in the tangent space of their
// normalised sum, with the weighted mean of the lengths; of task vectors if there is a base.
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "merge/common/gram.h"

namespace lewis {
namespace {

// All vectors below are combinations of the models, written as their coefficients.
std::vector<double> barycenter(const TensorTask& task, const Gram& gram) {
  const double eps = task["eps"];
  const size_t n = gram.size();
  std::vector<double> weights, unit;  // unit[i]: 1 / length of model i
  for (const ModelParameters& m : task.models) weights.push_back(m["weight"]);
  if (task.flag("normalize_weights")) {
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    if (std::abs(sum) < 1e-12) {
      throw usage_error("tensor {}: the weights of multislerp add up to 0", task.name);
    }
    for (double& w : weights) w /= sum;
  }
  for (size_t i = 0; i < n; ++i) unit.push_back(1 / (gram.norm(i) + eps));

  std::vector<double> mean(n);  // sum of weight * unit vector, then its direction
  for (size_t i = 0; i < n; ++i) mean[i] = weights[i] * unit[i];
  const double length = gram.norm_of(mean);
  if (length < eps) return weights;  // directions that cancel out have no mean: a straight line
  for (double& c : mean) c /= length;

  std::vector<double> tangent(n);  // sum of weight * (unit vector - its part along the mean)
  double along_mean = 0, lengths = 0;
  for (size_t i = 0; i < n; ++i) {
    tangent[i] += weights[i] * unit[i];
    along_mean += weights[i] * unit[i] * gram.dot(i, mean);
    lengths += weights[i] * gram.norm(i);
  }
  for (size_t i = 0; i < n; ++i) tangent[i] -= along_mean * mean[i];
  const double r = gram.norm_of(tangent) + eps;

  std::vector<double> c(n);
  for (size_t i = 0; i < n; ++i) {
    c[i] = lengths * (std::cos(r) * mean[i] + std::sin(r) / r * tangent[i]);
  }
  return c;
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass& pass) {
  return combine_by_gram(task, pass, {.deltas = pass.has_base()}, barycenter);
}

}  // namespace

extern const MergeMethod kMultislerp = {
    .name = "multislerp",
    .base = BaseRole::kOptional,
    .min_models = 2,
    .about =
        "The weighted mean of directions on the sphere, taken in the tangent space of their "
        "normalised sum, with the weighted mean of the lengths. With a base it is the mean of task "
        "vectors.",
    .model_parameters = {{"weight"}},
    .whole_parameters = {{"normalize_weights", 1}, {"eps", 1e-8}},
    .survey = survey,
    .blend = blend_combination};

}  // namespace lewis
