// How much the activation-weighted norm of a layer moved (LEWIS, arXiv 2503.03874, section 3; spec
// steps 2b and 3): n(c, l) = || |W| sqrt(s) ||_F = sqrt(sum_j s_j ||W[:, j]||^2) for base and
// expert, delta = |n_expert - n_base|, divided by the sum over the layers of its component.
#include <algorithm>
#include <cmath>

#include "plan/decimal.h"
#include "plan/matrix_pairs.h"
#include "plan/tables.h"

namespace lewis {

void norm_shift(const ImportanceInput& input, ModelPlan& plan) {
  // n^2 of one matrix.
  const auto squared = [&](const TensorSource& source, const CoveredMatrix& matrix) {
    const auto piece = [&](int64_t first, int64_t rows) {
      return weighted_squares(read_rows(source, matrix, first, rows), matrix.sums);
    };
    return sum_over_rows(matrix.rows, input.threads, piece) / matrix.divisor;
  };
  const PairNorms norms = norms_of_pairs(input, plan, [&](const MatrixPair& pair) {
    return std::pair(squared(input.base, pair.base), squared(input.expert, pair.expert));
  });
  plan.base_norm = norms.base;
  plan.expert_norm = norms.expert;
  plan.importance = normalized_shift(norms.base, norms.expert, norms.unsure);
  plan.part_importance = normalized_shift(norms.base_part, norms.expert_part, norms.unsure);
}

namespace {

// The deltas of one component in one layer: one, or one for each expert.
struct Members {
  double sum = 0, sure_sum = 0;
  int64_t count = 0, sure = 0;
  // Of those that saw enough tokens; of all when there are no such.
  double mean() const {
    return sure ? sure_sum / static_cast<double>(sure) : sum / static_cast<double>(count);
  }
};

using ComponentLayers = std::map<std::string, std::map<int64_t, Members>>;

ComponentLayers members_of(const LayerValues& values, const std::set<std::string>& unsure) {
  ComponentLayers members;
  for (const auto& [module, value] : values) {
    Members& m = members[component_of(module)][tensor_layer(module).value_or(0)];
    m.sum += value;
    ++m.count;
    if (unsure.contains(module)) continue;
    m.sure_sum += value;
    ++m.sure;
  }
  return members;
}

}  // namespace

void replace_unsure(LayerValues& values, const std::set<std::string>& unsure) {
  const ComponentLayers members = members_of(values, unsure);
  for (const std::string& module : unsure) {
    const auto value = values.find(module);
    if (value == values.end()) continue;
    value->second = members.at(component_of(module)).at(tensor_layer(module).value_or(0)).mean();
  }
}

LayerValues normalized_shift(const LayerValues& base_norm, const LayerValues& expert_norm,
                             const std::set<std::string>& unsure) {
  LayerValues delta;
  for (const auto& [module, norm] : expert_norm)
    delta[module] = std::abs(norm - base_norm.at(module));
  const ComponentLayers members = members_of(delta, unsure);
  replace_unsure(delta, unsure);
  for (auto& [module, value] : delta) {
    double sum = 0;
    for (const auto& [_, m] : members.at(component_of(module))) sum += m.mean();
    if (sum > 0) value /= sum;
    value = round_decimals(std::clamp(value, 0.0, 1.0), 5);
  }
  return delta;
}

}  // namespace lewis
