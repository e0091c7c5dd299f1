// One factor for each column of a weight: what calibration knows of its input channels, as merging
// uses it.
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
  // Whether it has a factor for each column of a tensor of `count` elements.
  bool fits(int64_t count) const;
};

// By the name of the tensor. Tensors that are not there have the factor 1.
using ColumnFactorMap = std::map<std::string, ColumnFactors, std::less<>>;

// Changes when any of them does.
std::string hash_of(const ColumnFactorMap& factors);

}  // namespace lewis
