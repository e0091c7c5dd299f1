// How much the output of every linear layer changes from the base to an expert: both models run the
// same text side by side.
#pragma once

#include "calibrate/calibrate.h"

namespace lewis {

// Statistics::output_changes of all linear layers but routers, summed over the counted tokens;
// biases are left out. Both models must have the same spec (Error(kInput) otherwise); `backend`
// multiplies for both. Protocol clean only (Error(kUsage)). Same bits for any number of threads.
// Memory: a block of each model twice, the hidden states of all tokens of both, one group's
// activations; Error(kResource), before any work, where that is more than options.max_memory.
// origin is left to the caller. Other errors as calibrate().
Statistics output_changes(const Transformer& base, const Transformer& expert, Backend& backend,
                          std::span<const std::vector<int32_t>> sequences,
                          const CalibrateOptions& options);

}  // namespace lewis
