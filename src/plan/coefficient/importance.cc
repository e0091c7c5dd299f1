// Weights proportional to importance, with the mean factor 1 over the covered parameters; tensors
// without an importance keep their weight.
#include "plan/covered.h"
#include "plan/tables.h"

namespace lewis {

LayerValues coefficient_importance(const CoefficientSettings&, const ImportanceInput& models,
                                   const ModelPlan& plan) {
  double sum = 0, all = 0;
  for (const auto& [module, value] : plan.importance) {
    const auto count = static_cast<double>(element_count(weight_of(models.expert, module).shape));
    sum += value * count;
    all += count;
  }
  LayerValues factors;
  for (const auto& [module, value] : plan.importance)
    factors[weight_of(models.expert, module).name] = sum > 0 ? value * all / sum : 1;
  return factors;
}

}  // namespace lewis
