// Importances of which one outweighs all others (docs/lewis.md): named, and made even before they
// are allocated.
#pragma once

#include <string>
#include <vector>

#include "plan/plan.h"

namespace lewis {

// lewis.normalise. min_max: as they are. rank: the share of the others that are smaller, where
// equal ones count half, so that it is from 0 to 1. log: log(1 + v / m), divided by the largest of
// these, with m the median of those above 0.
LayerValues normalised(const LayerValues& importance, Normalise how);

// A linear layer of one block that has more than a quarter of all of its projection's importance,
// and more than twice what it would have if all blocks were alike.
struct Outlier {
  std::string projection;  // component_of
  int64_t layer = 0;
  double share = 0;  // of its projection's importance; the experts of a layer together
};
std::vector<Outlier> outliers_of(const LayerValues& importance);

}  // namespace lewis
