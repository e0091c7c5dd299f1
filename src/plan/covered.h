// The matrices that get an importance: which rows of which tensor they are, and the statistics of
// their inputs. A fused weight has one matrix for each part; each routed expert has its own,
// whether experts are stored as one tensor or as many.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "calibrate/statistics.h"
#include "io/tensor_source.h"

namespace lewis {

// Experts that saw fewer tokens are judged by the mean of the others.
inline constexpr int64_t kFewTokens = 100;

struct CoveredMatrix {
  std::string name;    // "model.layers.3.self_attn.q_proj", "(...).mlp.experts.5.gate_proj"
  std::string module;  // whose density it has: name, or "(...).qkv_proj", "(...).experts.down_proj"
  const TensorInfo* tensor = nullptr;
  int64_t first_row = 0, rows = 0;  // of the tensor as one matrix
  std::span<const double> sums;     // [in]: sums of squares of the input
  double divisor = 1;               // makes s_j of them (docs/lewis.md)
  std::string expert;               // "(...).mlp.experts.5", or ""
  int64_t tokens = 0;               // number of tokens that the expert saw
};

// The matrices of all modules of the statistics, sorted by name. They refer to `statistics`, which
// must outlive them. Error(kInput): a tensor is missing or does not fit.
std::vector<CoveredMatrix> covered_matrices(const TensorSource& source,
                                            const Statistics& statistics);

// The tensor of a module: X.weight, or X itself where experts are stored as one tensor.
const TensorInfo& weight_of(const TensorSource& source, const std::string& module);

}  // namespace lewis
