// Weights that grow linearly with depth (Wang et al., "LiNeS: Post-training layer scaling prevents
// forgetting and enhances model merging", arXiv 2410.17146): first + (last - first) * l / (L - 1)
// in layer l of the L layers of its stack; what comes before the layers counts as the first, what
// comes behind as the last.
#include "plan/tables.h"

namespace lewis {

LayerValues coefficient_lines(const CoefficientSettings& settings, const ImportanceInput&,
                              const ModelPlan& plan) {
  LayerStacks stacks;
  for (const std::string& t : plan.tensors) stacks.add(t);
  LayerValues factors;
  for (const std::string& t : plan.tensors) {
    const bool embedding = t.find("embed") != std::string::npos;
    const double depth = tensor_layer(t) ? stacks.depth(t) : embedding ? 0 : 1;
    factors[t] = settings.first + (settings.last - settings.first) * depth;
  }
  return factors;
}

}  // namespace lewis
