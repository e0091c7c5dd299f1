// Layers that some programs store fused: queries, keys and values as one matrix (Phi-3), gate and
// up of an MLP (Phi-3, GLM).
#pragma once

#include <memory>
#include <string>

#include "io/tensor_source.h"

namespace lewis {

// Shows a model's layers as `main` stores them: fused ones of its own parts, or parts of its own
// fused ones. `changed`: how many tensors of main are made so, and the first of them.
struct FittedRows {
  std::shared_ptr<const TensorSource> source;
  size_t changed = 0;
  std::string first;
};
FittedRows fit_rows(std::shared_ptr<const TensorSource> source, const TensorSource& main);

}  // namespace lewis
