// What kinds of attention share: the keys and values of a sequence, and rotary positions.
#pragma once

#include <vector>

#include "model/mixer.h"

namespace lewis {

// Keys and values of one sequence in one layer.
class KvCache final : public MixerState {
 public:
  explicit KvCache(int64_t width) : width_(width) {}

  // Appends rows of keys and values ([rows, kv_heads * head_dim]) at `position`, which must be
  // where the cache ends.
  void append(int64_t position, const float* keys, const float* values, int64_t rows);
  const float* keys() const { return keys_.data(); }
  const float* values() const { return values_.data(); }

 private:
  int64_t width_;
  std::vector<float> keys_, values_;  // [positions, kv_heads * head_dim]
};

// Heads of one kind that are turned, x [rows, heads, head_dim].
struct TurnedHeads {
  float* x = nullptr;
  int64_t heads = 0, head_dim = 0;
};
// Turns the heads by the positions of the call's rows. A sequence that is longer than the rope's
// short length has frequencies of its own.
void encode_positions(const MixCall& call, const RopeSpec& rope, const TurnedHeads& queries,
                      const TurnedHeads& keys);

// out [rows, heads * head_dim] = softmax(scale * q k^T, causal) v. Where a sequence has a state, a
// KvCache, k and v are added to what it holds; where they are null, it holds those of these rows
// already. k and v: [rows, kv_heads * head_dim].
void attend(const MixCall& call, const AttentionShape& shape, const float* q, const float* k,
            const float* v, float* out);

}  // namespace lewis
