// How much a layer's output changes from base to expert on the same text, each model on its own
// stream: || Y_expert - Y_base ||_F / || Y_base ||_F. Of routed experts, over the tokens that both
// models send there.
#include <algorithm>

#include "base/error.h"
#include "plan/matrix_pairs.h"
#include "plan/normalization.h"
#include "plan/tables.h"

namespace lewis {
namespace {

// change / base; a layer that was silent and no longer is has changed altogether.
LayerValues ratios(const LayerValues& base, const LayerValues& change) {
  LayerValues result;
  for (const auto& [module, value] : change) {
    const double was = base.at(module);
    result[module] = was > 0 ? value / was : value > 0 ? 1 : 0;
  }
  return result;
}

}  // namespace

void activation_shift(const ImportanceInput& input, ModelPlan& plan) {
  if (!input.output_changes) throw failed_error("importance activation_shift: no output changes");
  const auto& changes = input.output_changes->output_changes;
  PairNorms norms = norms_of_pairs(input, plan, [&](const MatrixPair& pair) {
    const auto change = changes.find(pair.expert.name);
    if (change == changes.end())
      throw input_error("nothing is known of the output of {}", pair.expert.name);
    return std::pair(change->second.base, change->second.changed);
  });
  plan.importance = ratios(norms.base, norms.expert);
  plan.part_importance = ratios(norms.base_part, norms.expert_part);
  replace_unsure(plan.importance, norms.unsure);
  replace_unsure(plan.part_importance, norms.unsure);
}

}  // namespace lewis
