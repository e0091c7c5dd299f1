#include "plan/normalise.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "io/layer_name.h"
#include "plan/normalization.h"

namespace lewis {
namespace {

LayerValues ranks_of(const LayerValues& importance) {
  std::vector<double> sorted;
  for (const auto& [module, value] : importance) sorted.push_back(value);
  std::ranges::sort(sorted);
  LayerValues ranks;
  for (const auto& [module, value] : importance) {
    const auto [first, last] = std::ranges::equal_range(sorted, value);
    const auto smaller = static_cast<double>(first - sorted.begin());
    const auto equal = static_cast<double>(last - first) - 1;
    const auto others = static_cast<double>(sorted.size()) - 1;
    ranks[module] = others > 0 ? (smaller + equal / 2) / others : 0.5;
  }
  return ranks;
}

LayerValues logarithms_of(const LayerValues& importance) {
  std::vector<double> positive;
  for (const auto& [module, value] : importance) {
    if (value > 0) positive.push_back(value);
  }
  if (positive.empty()) return importance;
  std::ranges::sort(positive);
  const double median = positive[positive.size() / 2];
  LayerValues logs;
  for (const auto& [module, value] : importance) logs[module] = std::log1p(value / median);
  const double most =
      std::ranges::max_element(logs, {}, [](const auto& l) { return l.second; })->second;
  for (auto& [module, value] : logs) value /= most;
  return logs;
}

}  // namespace

LayerValues normalised(const LayerValues& importance, Normalise how) {
  if (how == Normalise::kRank) return ranks_of(importance);
  if (how == Normalise::kLog) return logarithms_of(importance);
  return importance;
}

std::vector<Outlier> outliers_of(const LayerValues& importance) {
  std::map<std::string, std::map<int64_t, double>> cells;  // projection, layer -> sum
  for (const auto& [module, value] : importance)
    cells[component_of(module)][tensor_layer(module).value_or(0)] += value;
  std::vector<Outlier> outliers;
  for (const auto& [projection, layers] : cells) {
    double all = 0;
    for (const auto& [layer, value] : layers) all += value;
    const double most = std::max(0.25, 2 / static_cast<double>(layers.size()));
    for (const auto& [layer, value] : layers) {
      if (all > 0 && value > most * all) outliers.push_back({projection, layer, value / all});
    }
  }
  return outliers;
}

}  // namespace lewis
