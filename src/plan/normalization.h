// How norms become importances that add up to 1 over the layers (LEWIS, arXiv 2503.03874, section
// 3; docs/lewis.md), with the rounding of the paper's program.
#pragma once

#include <set>
#include <string>

#include "plan/plan.h"

namespace lewis {

// Python's round(value, digits): the decimal nearest to the exact binary value, ties to even.
double round_decimals(double value, int digits);

// The linear layer's name without its place: "q_proj" of "model.layers.3.self_attn.q_proj",
// "experts.gate_proj" of "model.layers.3.mlp.experts.17.gate_proj".
std::string component_of(const std::string& module);

// Modules that are `unsure` (experts that saw few tokens) get the mean of the other experts of
// their layer and component.
void replace_unsure(LayerValues& values, const std::set<std::string>& unsure);

// |expert norm - base norm|, divided by the sum over the layers of the same component (left as it
// is when that is 0), rounded to 5 decimals. In that sum the experts of a layer count by their
// mean. `unsure`: experts that saw few tokens; they get the mean of the other experts of their
// layer.
LayerValues normalized_shift(const LayerValues& base_norm, const LayerValues& expert_norm,
                             const std::set<std::string>& unsure = {});

}  // namespace lewis
