// density = clip(mu + kappa z, gamma, epsilon), with mu such that the mean density over the covered
// parameters is the budget (docs/lewis.md). z is the importance less its mean, over its
// standard deviation, both weighted by parameters. One outlier cannot press the others down, and a
// guided merge keeps as many entries as a uniform one.
#include <algorithm>
#include <cmath>
#include <vector>

#include "plan/covered.h"
#include "plan/tables.h"

namespace lewis {
namespace {

struct Layer {
  double z = 0, share = 0;  // share of the covered parameters
};

std::vector<Layer> layers_of(const LayerValues& importance, const TensorSource& model) {
  std::vector<Layer> layers;
  double all = 0, mean = 0, variance = 0;
  for (const auto& [module, value] : importance) {
    const auto count = static_cast<double>(element_count(weight_of(model, module).shape));
    layers.push_back({value, count});
    all += count;
  }
  for (Layer& l : layers) {
    l.share /= all;
    mean += l.share * l.z;
  }
  for (const Layer& l : layers) variance += l.share * (l.z - mean) * (l.z - mean);
  const double deviation = std::sqrt(variance);
  for (Layer& l : layers) l.z = deviation > 0 ? (l.z - mean) / deviation : 0;
  return layers;
}

}  // namespace

LayerValues allocate_budget(const AllocationInput& in) {
  const auto& [gamma, epsilon] = std::pair(in.lewis.gamma, in.lewis.epsilon);
  const std::vector<Layer> layers = layers_of(in.plan.importance, in.models.expert);
  const auto density = [&](double mu, const Layer& l) {
    return std::clamp(mu + in.lewis.kappa * l.z, gamma, epsilon);
  };
  const auto mean = [&](double mu) {
    double sum = 0;
    for (const Layer& l : layers) sum += l.share * density(mu, l);
    return sum;
  };
  double reach = 0;
  for (const Layer& l : layers) reach = std::max(reach, std::abs(in.lewis.kappa * l.z));
  double low = gamma - reach, high = epsilon + reach;     // everything at gamma, at epsilon
  for (int step = 0; step < 200 && low < high; ++step) {  // until the doubles meet
    const double middle = low + (high - low) / 2;
    if (middle == low || middle == high) break;
    (mean(middle) < in.lewis.budget ? low : high) = middle;
  }
  LayerValues result;
  size_t at = 0;
  for (const auto& [module, _] : in.plan.importance) result[module] = density(high, layers[at++]);
  return result;
}

}  // namespace lewis
