// One factor per column of a weight: what calibration knows about the input channels, in the form
// in which merging uses it.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace lewis {

struct ColumnFactors {
  int64_t rows = 0, columns = 0;  // of one matrix; a tensor may hold several, one after the other
  std::vector<float> values;      // [matrices, columns]

  // out[i] = the factor of element first + i of the tensor.
  void fill(int64_t first, std::span<float> out) const;
  // True if it has a factor for each column of a tensor of `count` elements.
  bool fits(int64_t count) const;
};

// The factors by the name of the tensor. Tensors that are missing have the factor 1.
using ColumnFactorMap = std::map<std::string, ColumnFactors, std::less<>>;

// A hash that changes when any of them does.
std::string hash_of(const ColumnFactorMap& factors);

}  // namespace lewis
