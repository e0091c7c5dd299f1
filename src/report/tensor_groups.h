// Summarizes thousands of tensors in a few lines: names that differ only in numbers form a group.
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

// Puts every tensor into one group. Numbers between dots become "{first-last}", or "{first-last:
// count}" if some between are missing. Groups are in the order of their first tensors.
std::vector<TensorGroup> group_tensors(const std::vector<TensorLine>& tensors);

std::string_view fate_name(Fate fate);

}  // namespace lewis
