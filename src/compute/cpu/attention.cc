#include "compute/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/threads.h"
#include "compute/cpu/bf16_kernels.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/matmul.h"
#include "compute/float_buffer.h"

namespace lewis {
namespace {

// The rows of a tile: its queries times the query heads that share a key head.
constexpr int64_t kFloatRows = 128, kRoundedRows = 64;
constexpr int64_t kFewQueries = 4;  // up to this number plain loops are faster than matrix products
constexpr double kParallelFlops = 2e6;

// A tile: some queries of one sequence, for the query heads that share one key-value head.
struct Tile {
  const AttentionRows* rows = nullptr;
  size_t sequence = 0;
  int64_t kv_head = 0;
  int64_t first = 0, count = 0;  // queries
};

struct TileShape {
  int64_t group, head_dim;          // query heads per key-value head
  int64_t query_stride, kv_stride;  // floats from one row to the next
  float scale;
  int64_t window;  // keys that a query sees; larger than any sequence if it sees all
  float softcap;
  int64_t chunk;
  const float* sinks;  // by query head, or null
};

TileShape tile_shape(const AttentionShape& s) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  return {s.heads / s.kv_heads,
          s.head_dim,
          s.heads * s.head_dim,
          s.kv_heads * s.head_dim,
          s.scale,
          s.window ? s.window : kAll,
          s.softcap,
          s.chunk,
          s.sinks.empty() ? nullptr : s.sinks.data()};
}

// The first key that a query at `position` sees.
int64_t first_key(const TileShape& s, int64_t position) {
  const int64_t first = s.window > position ? 0 : position - s.window + 1;
  return s.chunk ? std::max(first, position / s.chunk * s.chunk) : first;
}

// The offset at which the tile's query (or result) `query` of head `h` of the group begins.
int64_t query_offset(const TileShape& s, const Tile& t, int64_t query, int64_t h) {
  return (t.rows->first_query + t.first + query) * s.query_stride +
         (t.kv_head * s.group + h) * s.head_dim;
}

// The running maximum and sum of a softmax whose scores arrive in blocks of keys (Milakov and
// Gimelshein, "Online normalizer calculation for softmax", 2018).
struct OnlineSoftmax {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;

  // Replaces scores[begin, end) by exp(score - max) and the other scores of scores[n] by 0. Scales
  // the weighted sum so far (result[head_dim]) to the new maximum.
  void add_block(const Kernels& k, float* scores, int64_t begin, int64_t end, int64_t n,
                 float* result, int64_t head_dim) {
    std::fill(scores, scores + begin, 0.0f);
    std::fill(scores + end, scores + n, 0.0f);
    if (begin == end) return;
    const float larger = std::max(max, k.max(scores + begin, end - begin));
    const float factor = std::exp(max - larger);
    if (factor != 1) k.scale(result, factor, head_dim);
    sum = sum * factor + k.exp_sum(scores + begin, larger, end - begin);
    max = larger;
  }

  // Counts a score that has no value.
  void add_sink(const Kernels& k, float score, float* result, int64_t head_dim) {
    const float larger = std::max(max, score);
    const float factor = std::exp(max - larger);
    if (factor != 1) k.scale(result, factor, head_dim);
    sum = sum * factor + std::exp(score - larger);
    max = larger;
  }
};

// The two products of a tile in float.
class FloatProducts {
 public:
  static constexpr int64_t kKeys = 512;  // per block

  FloatProducts(const TileShape& s, const Tile& t)
      : shape_(s),
        rows_(t.count * s.group),
        keys_(t.rows->keys + t.kv_head * s.head_dim),
        values_(t.rows->values + t.kv_head * s.head_dim) {}

  int64_t rows() const { return rows_; }                          // rows of a product
  int64_t width() const { return shape_.head_dim; }               // columns of the result
  static int64_t block_of(int64_t key) { return key; }            // first key of its block
  static int64_t columns(int64_t keys) { return keys; }           // columns of a block
  void set_queries(const float* queries) { queries_ = queries; }  // [rows, head_dim]
  void set_weights(int64_t row, const float* weights, int64_t n) { weights_ = weights - row * n; }
  // scores[rows, columns(n)] = queries * keys [key, key + n)
  void scores(int64_t key, int64_t n, float* scores) const {
    gemm({.m = rows_,
          .n = n,
          .k = shape_.head_dim,
          .lda = shape_.head_dim,
          .ldb = shape_.kv_stride,
          .ldc = n,
          .transpose_b = true},
         queries_, keys_ + key * shape_.kv_stride, scores);
  }
  // result[rows, width] += weights[rows, columns(n)] * values [key, key + n)
  void add_values(int64_t key, int64_t n, float* result) const {
    gemm({.m = rows_,
          .n = shape_.head_dim,
          .k = n,
          .lda = n,
          .ldb = shape_.kv_stride,
          .ldc = shape_.head_dim,
          .accumulate = true},
         weights_, values_ + key * shape_.kv_stride, result);
  }

 private:
  const TileShape& shape_;
  int64_t rows_;
  const float *keys_, *values_, *queries_ = nullptr, *weights_ = nullptr;
};

constexpr int64_t kPanel = PanelProduct::kPanel, kStep = PanelProduct::kStep;

// The keys and values that a sequence sees, per key-value head, in the layout of Bf16Kernels. Keys
// are panels of 16 positions, [positions / 16, width / 2, 16]; values are panels of 16 channels of
// the head, [width / 16, positions / 2, 16]. Zeros fill positions and width up to a multiple of 32.
struct RoundedSequence {
  int64_t first = 0, positions = 0, width = 0;  // the first position and the number of positions
  uint32_t *keys = nullptr, *values = nullptr;

  RoundedSequence(const TileShape& s, const AttentionRows& rows)
      : first(first_key(s, rows.first_position) / kStep * kStep),
        positions(round_up(rows.first_position + rows.queries - first, kStep)),
        width(round_up(s.head_dim, kStep)) {}
  int64_t head_size() const { return positions * width / 2; }  // pairs, per keys or values
};

// The two products of a tile with factors rounded to bfloat16.
class RoundedProducts {
 public:
  static constexpr int64_t kKeys = 512;

  RoundedProducts(const TileShape& s, const Tile& t, const RoundedSequence& sequence)
      : shape_(s), sequence_(sequence), rows_(t.count * s.group) {
    keys_ = sequence.keys + t.kv_head * sequence.head_size();
    values_ = sequence.values + t.kv_head * sequence.head_size();
    thread_local FloatBuffer room;
    queries_ = reinterpret_cast<uint16_t*>(room.get(rows() * (width() + kKeys) / 2));
    weights_ = queries_ + rows() * width();
    std::fill(queries_, weights_, uint16_t{0});
    std::fill(weights_ + rows_ * kKeys, weights_ + rows() * kKeys, uint16_t{0});
  }

  int64_t rows() const { return round_up(rows_, kPanel); }
  int64_t width() const { return sequence_.width; }
  static int64_t block_of(int64_t key) { return key / kStep * kStep; }
  static int64_t columns(int64_t keys) { return round_up(keys, kStep); }
  void set_queries(const float* queries) {
    for (int64_t r = 0; r < rows_; ++r)
      kernels_.round(queries + r * shape_.head_dim, shape_.head_dim, queries_ + r * width());
  }
  void set_weights(int64_t row, const float* weights, int64_t n) {
    kernels_.round(weights, n, weights_ + row * kKeys);
  }
  void scores(int64_t key, int64_t n, float* scores) const {
    kernels_.multiply({.m = rows(),
                       .n = columns(n),
                       .k = width(),
                       .a = queries_,
                       .row_stride = width(),
                       .b = keys_ + (key - sequence_.first) * width() / 2,
                       .panel_stride = width() / 2 * kPanel,
                       .c = scores,
                       .c_stride = columns(n)});
  }
  void add_values(int64_t key, int64_t n, float* result) const {
    kernels_.multiply({.m = rows(),
                       .n = width(),
                       .k = columns(n),
                       .a = weights_,
                       .row_stride = kKeys,
                       .b = values_ + (key - sequence_.first) / 2 * kPanel,
                       .panel_stride = sequence_.positions / 2 * kPanel,
                       .c = result,
                       .c_stride = width(),
                       .accumulate = true});
  }

 private:
  const TileShape& shape_;
  const RoundedSequence& sequence_;
  const Bf16Kernels& kernels_ = best_bf16_kernels();
  int64_t rows_;
  const uint32_t *keys_, *values_;
  uint16_t *queries_, *weights_;  // [rows, width], [rows, kKeys]
};

// Computes scores and weighted values of a tile as matrix products over blocks of keys.
template <typename Products>
void attend_tile(const TileShape& s, const Tile& t, const float* q, float* out, Products products) {
  const Kernels& kernels = best_kernels();
  const int64_t rows = t.count * s.group, all_rows = products.rows();
  const int64_t first_position = t.rows->first_position + t.first;
  const int64_t positions = first_position + t.count;
  thread_local FloatBuffer buffer;
  float* result = buffer.get(all_rows * (products.width() + Products::kKeys) + rows * s.head_dim);
  float* scores = result + all_rows * products.width();  // [all_rows, columns]
  float* queries = scores + all_rows * Products::kKeys;  // [rows, head_dim]
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = q + query_offset(s, t, r / s.group, r % s.group);
    for (int64_t i = 0; i < s.head_dim; ++i) queries[r * s.head_dim + i] = from[i] * s.scale;
  }
  products.set_queries(queries);
  std::fill(result, scores, 0.0f);
  std::vector<OnlineSoftmax> softmax(static_cast<size_t>(rows));
  for (int64_t key = Products::block_of(first_key(s, first_position)); key < positions;
       key += Products::kKeys) {
    const int64_t n = std::min(Products::kKeys, positions - key), columns = Products::columns(n);
    products.scores(key, n, scores);
    if (s.softcap != 0) kernels.softcap(scores, s.softcap, rows * columns);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t position = first_position + r / s.group;
      const int64_t end = std::clamp<int64_t>(position + 1 - key, 0, n);
      const int64_t begin = std::clamp<int64_t>(first_key(s, position) - key, 0, end);
      softmax[static_cast<size_t>(r)].add_block(kernels, scores + r * columns, begin, end, columns,
                                                result + r * products.width(), s.head_dim);
      products.set_weights(r, scores + r * columns, columns);
    }
    products.add_values(key, n, result);
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* to = out + query_offset(s, t, r / s.group, r % s.group);
    std::copy_n(result + r * products.width(), s.head_dim, to);
    OnlineSoftmax& its = softmax[static_cast<size_t>(r)];
    if (s.sinks) its.add_sink(kernels, s.sinks[t.kv_head * s.group + r % s.group], to, s.head_dim);
    kernels.scale(to, 1.0f / its.sum, s.head_dim);
  }
}

// Computes the same query by query, for generation.
void attend_each(const TileShape& s, const Tile& t, const float* q, float* out) {
  const Kernels& kernels = best_kernels();
  const int64_t positions = t.rows->first_position + t.first + t.count;
  std::vector<float> scores(static_cast<size_t>(std::min(positions, s.window)));
  for (int64_t query = 0; query < t.count; ++query) {
    const int64_t position = t.rows->first_position + t.first + query;
    const int64_t first = first_key(s, position), visible = position + 1 - first;
    const float* keys = t.rows->keys + first * s.kv_stride + t.kv_head * s.head_dim;
    const float* values = t.rows->values + first * s.kv_stride + t.kv_head * s.head_dim;
    for (int64_t h = 0; h < s.group; ++h) {
      const int64_t offset = query_offset(s, t, query, h);
      kernels.dots(q + offset, keys, s.kv_stride, visible, s.head_dim, s.scale, scores.data());
      if (s.softcap != 0) kernels.softcap(scores.data(), s.softcap, visible);
      const float* sink = s.sinks ? s.sinks + t.kv_head * s.group + h : nullptr;
      float max = kernels.max(scores.data(), visible);
      if (sink) max = std::max(max, *sink);
      float sum = kernels.exp_sum(scores.data(), max, visible);
      if (sink) sum += std::exp(*sink - max);
      kernels.weighted_sum(scores.data(), values, s.kv_stride, visible, s.head_dim, 1.0f / sum,
                           out + offset);
    }
  }
}

bool few_queries(const AttentionRows& rows) { return rows.queries <= kFewQueries; }

// Fills one head of `to`. Positions that no query sees are zero.
void round_head(const TileShape& s, const AttentionRows& rows, int64_t head,
                const RoundedSequence& to) {
  const Bf16Kernels& kernels = best_bf16_kernels();
  thread_local FloatBuffer room;
  const int64_t size = kPanel * to.width, seen = rows.first_position + rows.queries;
  auto* keys = reinterpret_cast<uint16_t*>(room.get(size));  // [16, width]
  uint16_t* values = keys + size;
  for (int64_t p = 0; p < to.positions; p += kPanel) {
    std::fill(keys, values + size, uint16_t{0});
    const int64_t begin = std::max(to.first + p, first_key(s, rows.first_position));
    const int64_t end = std::min(to.first + p + kPanel, seen);
    for (int64_t position = begin; position < end; ++position) {
      const int64_t offset = position * s.kv_stride + head * s.head_dim;
      const int64_t row = (position - to.first - p) * to.width;
      kernels.round(rows.keys + offset, s.head_dim, keys + row);
      kernels.round(rows.values + offset, s.head_dim, values + row);
    }
    pair_columns(keys, to.width, to.keys + head * to.head_size() + p * to.width / 2);
    pair_rows(values, to.width, to.values + head * to.head_size() + p / 2 * kPanel,
              to.positions / 2 * kPanel);
  }
}

// Rounds keys and values of all sequences with many queries into `room`.
std::vector<RoundedSequence> round_sequences(const TileShape& s,
                                             std::span<const AttentionRows> sequences,
                                             FloatBuffer& room, Threads& threads) {
  const int64_t kv_heads = s.kv_stride / s.head_dim;
  std::vector<RoundedSequence> rounded;
  int64_t size = 0;
  for (const AttentionRows& rows : sequences) {
    rounded.emplace_back(s, rows);
    if (!few_queries(rows)) size += 2 * kv_heads * rounded.back().head_size();
  }
  auto* to = reinterpret_cast<uint32_t*>(room.get(size));
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (few_queries(sequences[i])) continue;
    rounded[i].keys = to;
    rounded[i].values = to += kv_heads * rounded[i].head_size();
    to += kv_heads * rounded[i].head_size();
  }
  threads.run(sequences.size() * static_cast<size_t>(kv_heads), [&](size_t piece) {
    const size_t i = piece / static_cast<size_t>(kv_heads);
    if (few_queries(sequences[i])) return;
    round_head(s, sequences[i], static_cast<int64_t>(piece % static_cast<size_t>(kv_heads)),
               rounded[i]);
  });
  return rounded;
}

}  // namespace

void CausalAttention::run(const AttentionShape& shape, std::span<const AttentionRows> sequences,
                          const float* q, float* out, Threads& threads) {
  const TileShape s = tile_shape(shape);
  const bool bf16 = type_ == ComputeType::kBF16;
  const int64_t queries = std::max<int64_t>(1, (bf16 ? kRoundedRows : kFloatRows) / s.group);
  std::vector<Tile> tiles;
  double flops = 0;
  bool round = false;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const AttentionRows& rows = sequences[i];
    round = round || (bf16 && !few_queries(rows));
    for (int64_t first = 0; first < rows.queries; first += queries) {
      const int64_t count = std::min(queries, rows.queries - first);
      for (int64_t head = 0; head < shape.kv_heads; ++head)
        tiles.push_back({&rows, i, head, first, count});
      flops += 4.0 * static_cast<double>(count * s.query_stride) *
               static_cast<double>(std::min(rows.first_position + first + count, s.window));
    }
  }
  std::vector<RoundedSequence> rounded;
  if (round) rounded = round_sequences(s, sequences, rounded_, threads);
  const auto run = [&](size_t i) {
    const Tile& t = tiles[i];
    if (few_queries(*t.rows)) {
      attend_each(s, t, q, out);
    } else if (round) {
      attend_tile(s, t, q, out, RoundedProducts(s, t, rounded[t.sequence]));
    } else {
      attend_tile(s, t, q, out, FloatProducts(s, t));
    }
  };
  if (flops < kParallelFlops) {
    for (size_t i = 0; i < tiles.size(); ++i) run(i);
  } else {
    threads.run(tiles.size(), run);
  }
}

}  // namespace lewis
