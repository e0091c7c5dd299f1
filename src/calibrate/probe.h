// Wanda pruning (Sun et al., "A Simple and Effective Pruning Approach for Large Language Models",
// arXiv 2306.11695), with which the reference protocol makes its probe of a block.
#pragma once

#include <cstdint>
#include <span>

#include "base/threads.h"

namespace lewis {

// weight: [out, in]. In every output row zeroes the int(in * sparsity) entries with the smallest
// |w| * sqrt(s[j]), in float; of equals the lower index goes first.
void prune_rows(Threads& threads, std::span<float> weight, int64_t out, int64_t in,
                std::span<const float> s, double sparsity);

}  // namespace lewis
