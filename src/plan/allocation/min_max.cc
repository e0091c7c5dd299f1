// The smallest value gets gamma, the largest epsilon, the rest in proportion (LEWIS, arXiv
// 2503.03874, section 3; docs/lewis.md).
#include <algorithm>

#include "plan/normalization.h"
#include "plan/plan.h"

namespace lewis {

LayerValues allocate_min_max(const LayerValues& importance, double gamma, double epsilon) {
  LayerValues density;
  if (importance.empty()) return density;
  double low = 1, high = 0;
  for (const auto& [module, value] : importance) {
    density[module] = round_decimals(value, 5);
    low = std::min(low, density[module]);
    high = std::max(high, density[module]);
  }
  for (auto& [_, value] : density) {
    value = high > low ? gamma + (value - low) / (high - low) * (epsilon - gamma)
                       : (gamma + epsilon) / 2;
  }
  return density;
}

}  // namespace lewis
