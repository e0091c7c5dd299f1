// Causal attention in tiles: the whole matrix of queries times keys is never in memory.
#pragma once

#include <span>

#include "compute/backend.h"
#include "compute/float_buffer.h"

namespace lewis {

// Implements Backend::attention. A tile is (sequence, key-value head, block of queries), and the
// result of a sequence does not depend on the other sequences of the call. In bfloat16, queries,
// keys, values and the weights of the softmax are rounded for the two products, unless there are
// only a few queries. Sums are float.
class CausalAttention {
 public:
  explicit CausalAttention(ComputeType type) : type_(type) {}
  // Called by one thread at a time.
  void run(const AttentionShape& shape, std::span<const AttentionRows> sequences, const float* q,
           float* out, Threads& threads);

 private:
  ComputeType type_;
  FloatBuffer rounded_;  // keys and values
};

}  // namespace lewis
