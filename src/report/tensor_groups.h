// Thousands of tensors in a few lines: names that differ in numbers alone, together.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "report/report.h"

namespace lewis {

struct TensorGroup {
  std::string pattern;  // "model.layers.{0-31}.mlp.up_proj.weight"
  std::string dtype, shape;
  uint64_t tensors = 0, elements = 0;
  Fate fate = Fate::kMerged;
};

// Every tensor is in one group. Numbers between dots become "{first-last}", "{first-last: count}"
// where some between are not there; groups come in the order of their first tensors.
std::vector<TensorGroup> group_tensors(const std::vector<TensorLine>& tensors);

std::string_view fate_name(Fate fate);

}  // namespace lewis
