// Causal attention in tiles: no matrix of queries times keys is ever in memory.
#pragma once

#include <span>

#include "compute/backend.h"

namespace lewis {

// See Backend::attention. A tile is (sequence, key-value head, block of queries); a sequence's
// result does not depend on the other sequences of the call.
void causal_attention(const AttentionShape& shape, std::span<const AttentionRows> sequences,
                      const float* q, float* out, Threads& threads);

}  // namespace lewis
