#include "plan/normalization.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace lewis {

// The exact binary value printed to `digits` decimals is correctly rounded by the C library, ties
// to even, as CPython's round() is.
double round_decimals(double value, int digits) {
  return std::strtod(fmt::format("{:.{}f}", value, digits).c_str(), nullptr);
}

std::string component_of(const std::string& module) {
  const std::string end = module.substr(module.rfind('.') + 1);
  for (const char* place : {"experts.", "shared_expert."}) {
    if (module.find(std::string(".") + place) != std::string::npos) return place + end;
  }
  return end;
}

namespace {

// The deltas of one component in one layer: one, or one for each expert.
struct Members {
  double sum = 0, sure_sum = 0;
  int64_t count = 0, sure = 0;
  // The mean of those that saw enough tokens; if none did, of all.
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
