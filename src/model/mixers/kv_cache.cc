#include "model/mixers/kv_cache.h"

#include "base/error.h"
#include "model/rope.h"

namespace lewis {

void KvCache::append(int64_t position, const float* keys, const float* values, int64_t rows) {
  if (static_cast<int64_t>(keys_.size()) != position * width_) {
    throw failed_error("a layer's cache ends at position {}, not {}",
                       static_cast<int64_t>(keys_.size()) / width_, position);
  }
  keys_.insert(keys_.end(), keys, keys + rows * width_);
  values_.insert(values_.end(), values, values + rows * width_);
}

void encode_positions(const MixCall& call, const RopeSpec& rope, const TurnedHeads& queries,
                      const TurnedHeads& keys) {
  std::vector<int64_t> positions;
  bool all_short = true;
  for (const MixedRows& s : call.sequences) {
    for (int64_t i = 0; i < s.rows; ++i) positions.push_back(s.first_position + i);
    all_short = all_short && s.first_position + s.rows <= rope.short_length;
  }
  const auto turn = [&](int64_t first, int64_t rows, const std::vector<float>& frequency,
                        float factor) {
    const auto at =
        std::span(positions).subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
    for (const TurnedHeads& h : {queries, keys}) {
      if (!h.x) continue;
      call.backend.rope(h.x + first * h.heads * h.head_dim, rows, h.heads, h.head_dim, at,
                        frequency, factor, rope.pairs);
    }
  };
  if (all_short) {
    turn(0, static_cast<int64_t>(positions.size()), rope.inverse_frequency, rope.attention_factor);
    return;
  }
  for (const MixedRows& s : call.sequences) {
    const int64_t length = s.first_position + s.rows;
    turn(s.first_row, s.rows, rope_frequencies(rope, length), rope_attention_factor(rope, length));
  }
}

void attend(const MixCall& call, const AttentionShape& shape, const float* q, const float* k,
            const float* v, float* out) {
  const int64_t width = shape.kv_heads * shape.head_dim;
  std::vector<AttentionRows> attention;
  for (const MixedRows& s : call.sequences) {
    const float* keys = k ? k + s.first_row * width : nullptr;
    const float* values = v ? v + s.first_row * width : nullptr;
    if (s.state) {
      auto& cache = static_cast<KvCache&>(*s.state);
      if (keys) cache.append(s.first_position, keys, values, s.rows);
      keys = cache.keys();
      values = cache.values();
    }
    attention.push_back({s.first_row, s.rows, keys, values, s.first_position});
  }
  call.backend.attention(shape, attention, q, out);
}

}  // namespace lewis
