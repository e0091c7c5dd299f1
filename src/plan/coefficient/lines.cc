// Weights that grow linearly with depth (Wang et al., "LiNeS: Post-training layer scaling prevents
// forgetting and enhances model merging", arXiv 2410.17146): first + (last - first) * l / (L - 1)
// in layer l of L; what comes before the layers counts as the first, what comes behind as the last.
#include <algorithm>

#include "plan/tables.h"

namespace lewis {

LayerValues coefficient_lines(const CoefficientSettings& settings, const ImportanceInput&,
                              const ModelPlan& plan) {
  int64_t layers = 0;
  for (const std::string& t : plan.tensors)
    layers = std::max(layers, tensor_layer(t).value_or(-1) + 1);
  LayerValues factors;
  for (const std::string& t : plan.tensors) {
    const bool embedding = t.find("embed") != std::string::npos;
    const double depth = tensor_layer(t) ? tensor_depth(t, layers) : embedding ? 0 : 1;
    factors[t] = settings.first + (settings.last - settings.first) * depth;
  }
  return factors;
}

}  // namespace lewis
