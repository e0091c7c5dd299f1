// AIM: entries of the merged task vector count less where the base's inputs are large, since that
// is what the base knows (arXiv 2502.02421).
#include <algorithm>

#include "base/error.h"
#include "plan/covered.h"
#include "plan/tables.h"

namespace lewis {

void keep_magnitudes(const ImportanceInput& input, ModelPlan& plan) {
  if (input.base_statistics.sum_magnitudes.empty())
    throw failed_error("lewis.aim: the base's statistics hold no magnitudes");
  for (const auto& [module, sums] : input.base_statistics.sum_magnitudes) {
    const TensorInfo& weight = weight_of(input.base, module);
    const int64_t columns = weight.shape.empty() ? 0 : weight.shape.back();
    if (columns != static_cast<int64_t>(sums.size())) {
      throw input_error("{}: tensor {} is {}, the statistics have {} channels", input.base.label(),
                        weight.name, to_string(weight.shape), sums.size());
    }
    plan.base_magnitudes[weight.name] = {element_count(weight.shape) / columns, sums};
  }
}

ColumnFactorMap aim_relaxation(const std::vector<ModelPlan>& plans, double omega) {
  std::map<std::string, ChannelMagnitudes> all;  // the number of tokens cancels
  for (const ModelPlan& plan : plans) {
    for (const auto& [tensor, magnitudes] : plan.base_magnitudes) {
      ChannelMagnitudes& sum = all[tensor];
      sum.rows = magnitudes.rows;
      sum.sums.resize(magnitudes.sums.size());
      for (size_t j = 0; j < sum.sums.size(); ++j) sum.sums[j] += magnitudes.sums[j];
    }
  }
  ColumnFactorMap factors;
  for (const auto& [tensor, a_of] : all) {
    const double most = *std::ranges::max_element(a_of.sums);
    ColumnFactors f{
        .rows = a_of.rows, .columns = static_cast<int64_t>(a_of.sums.size()), .values = {}};
    for (const double a : a_of.sums)
      f.values.push_back(static_cast<float>(most > 0 ? 1 - (1 - omega) * a / most : 1));
    factors[tensor] = std::move(f);
  }
  return factors;
}

}  // namespace lewis
