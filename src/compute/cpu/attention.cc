#include "compute/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/threads.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/matmul.h"
#include "compute/float_buffer.h"

namespace lewis {
namespace {

constexpr int64_t kTileRows = 128;  // queries times the query heads that share a key head
constexpr int64_t kFewQueries = 4;  // up to here plain loops beat a multiplication's set-up
constexpr double kParallelFlops = 2e6;

// Some queries of one sequence and the query heads that share one key-value head.
struct Tile {
  const AttentionRows* rows = nullptr;
  size_t sequence = 0;
  int64_t kv_head = 0;
  int64_t first = 0, count = 0;  // queries
};

struct TileShape {
  int64_t group, head_dim;          // query heads of a key-value head
  int64_t query_stride, kv_stride;  // floats from one row to the next
  float scale;
  int64_t window;  // of keys that a query sees; more than there are when all are seen
  float softcap;

  int64_t queries() const { return std::max<int64_t>(1, kTileRows / group); }  // of a full tile
  // Those of a full tile that are multiplied in bfloat16: AMX takes 16 at once.
  int64_t rounded_rows() const { return (queries() * group + 15) / 16 * 16; }
};

TileShape tile_shape(const AttentionShape& s) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  return {s.heads / s.kv_heads,
          s.head_dim,
          s.heads * s.head_dim,
          s.kv_heads * s.head_dim,
          s.scale,
          s.window ? s.window : kAll,
          s.softcap};
}

// The first key that a query at `position` sees.
int64_t first_key(const TileShape& s, int64_t position) {
  return s.window > position ? 0 : position - s.window + 1;
}

// Where the tile's query (or result) of `query` and head `h` of the group begins.
int64_t query_offset(const TileShape& s, const Tile& t, int64_t query, int64_t h) {
  return (t.rows->first_query + t.first + query) * s.query_stride +
         (t.kv_head * s.group + h) * s.head_dim;
}

// Running maximum and sum of a softmax whose scores come in blocks of keys (Milakov and
// Gimelshein, "Online normalizer calculation for softmax", 2018).
struct OnlineSoftmax {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;

  // scores[n], of which [begin, end) count -> exp(score - max), the rest 0; what was gathered so
  // far (result[head_dim]) is brought to the new maximum.
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
};

// A tile's two products in float.
class FloatProducts {
 public:
  static constexpr int64_t kKeys = 512;  // of a block

  FloatProducts(const TileShape& s, const Tile& t)
      : shape_(s),
        rows_(t.count * s.group),
        keys_(t.rows->keys + t.kv_head * s.head_dim),
        values_(t.rows->values + t.kv_head * s.head_dim) {}

  int64_t rows() const { return rows_; }                          // that are multiplied
  static int64_t columns(int64_t keys) { return keys; }           // of so many keys
  void set_queries(const float* queries) { queries_ = queries; }  // [rows, head_dim]
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
  // result[rows, head_dim] += weights[rows, columns(n)] * values [key, key + n)
  void add_values(int64_t key, int64_t n, const float* weights, float* result) const {
    gemm({.m = rows_,
          .n = shape_.head_dim,
          .k = n,
          .lda = n,
          .ldb = shape_.kv_stride,
          .ldc = shape_.head_dim,
          .accumulate = true},
         weights, values_ + key * shape_.kv_stride, result);
  }

 private:
  const TileShape& shape_;
  int64_t rows_;
  const float *keys_, *values_, *queries_ = nullptr;
};

constexpr int64_t kKeyStep = 64;  // rounded keys are multiplied in multiples of this

// With zeros behind them, to be multiplied from any of them on.
int64_t padded_keys(int64_t positions) { return positions + kKeyStep - 1; }

// The keys and values of one sequence, [kv_heads, padded_keys(positions), head_dim], and the
// products of full tiles by the number of keys.
struct RoundedSequence {
  uint16_t *keys = nullptr, *values = nullptr;
};
struct RoundedShapes {
  static constexpr int64_t kKeys = 256;
  static constexpr size_t kSizes = kKeys / kKeyStep;
  const SmallProducts::Product *scores[kSizes], *values[kSizes];
};

void round_bf16(const float* from, int64_t n, uint16_t* to) {
  narrow({from, static_cast<size_t>(n)}, DType::kBF16, reinterpret_cast<std::byte*>(to));
}

// The same with rounded factors. All tiles are multiplied as full ones, and with keys that lie in
// steps of kKeyStep: oneDNN makes code for each shape.
class RoundedProducts {
 public:
  static constexpr int64_t kKeys = RoundedShapes::kKeys;

  RoundedProducts(const TileShape& s, const Tile& t, const RoundedSequence& sequence,
                  const RoundedShapes& shapes)
      : shape_(s), shapes_(shapes), used_rows_(t.count * s.group) {
    const int64_t offset =
        t.kv_head * s.head_dim * padded_keys(t.rows->first_position + t.rows->queries);
    keys_ = sequence.keys + offset;
    values_ = sequence.values + offset;
  }

  int64_t rows() const { return shape_.rounded_rows(); }
  static int64_t columns(int64_t keys) { return (keys + kKeyStep - 1) / kKeyStep * kKeyStep; }
  void set_queries(const float* queries) {
    const int64_t values = rows() * shape_.head_dim, used = used_rows_ * shape_.head_dim;
    thread_local FloatBuffer room;
    queries_ = reinterpret_cast<uint16_t*>(room.get(values / 2 + 1));
    round_bf16(queries, used, queries_);
    std::fill(queries_ + used, queries_ + values, uint16_t{0});
  }
  void scores(int64_t key, int64_t n, float* scores) const {
    shapes_.scores[size_of(n)]->run(queries_, keys_ + key * shape_.head_dim, scores);
  }
  void add_values(int64_t key, int64_t n, const float* weights, float* result) const {
    const int64_t values = rows() * columns(n);
    thread_local FloatBuffer room;
    auto* rounded = reinterpret_cast<uint16_t*>(room.get(values / 2 + 1));
    round_bf16(weights, values, rounded);
    shapes_.values[size_of(n)]->run(rounded, values_ + key * shape_.head_dim, result);
  }

 private:
  static size_t size_of(int64_t n) { return static_cast<size_t>(columns(n) / kKeyStep - 1); }

  const TileShape& shape_;
  const RoundedShapes& shapes_;
  int64_t used_rows_;
  const uint16_t *keys_ = nullptr, *values_ = nullptr;
  uint16_t* queries_ = nullptr;
};

// Scores and weighted values of a tile as multiplications over blocks of keys.
template <typename Products>
void attend_tile(const TileShape& s, const Tile& t, const float* q, float* out, Products products) {
  const Kernels& kernels = best_kernels();
  const int64_t rows = t.count * s.group, all_rows = products.rows();
  const int64_t first_position = t.rows->first_position + t.first;
  const int64_t positions = first_position + t.count;
  thread_local FloatBuffer buffer;
  float* queries = buffer.get(all_rows * (2 * s.head_dim + Products::kKeys));  // [rows, head_dim]
  float* result = queries + rows * s.head_dim;     // [all_rows, head_dim]
  float* scores = result + all_rows * s.head_dim;  // [all_rows, columns]
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = q + query_offset(s, t, r / s.group, r % s.group);
    for (int64_t i = 0; i < s.head_dim; ++i) queries[r * s.head_dim + i] = from[i] * s.scale;
  }
  products.set_queries(queries);
  std::fill(result, result + all_rows * s.head_dim, 0.0f);
  std::vector<OnlineSoftmax> softmax(static_cast<size_t>(rows));
  for (int64_t key = first_key(s, first_position); key < positions; key += Products::kKeys) {
    const int64_t n = std::min(Products::kKeys, positions - key), columns = Products::columns(n);
    products.scores(key, n, scores);
    if (s.softcap != 0) kernels.softcap(scores, s.softcap, rows * columns);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t position = first_position + r / s.group;
      const int64_t end = std::clamp<int64_t>(position + 1 - key, 0, n);
      const int64_t begin = std::clamp<int64_t>(first_key(s, position) - key, 0, end);
      softmax[static_cast<size_t>(r)].add_block(kernels, scores + r * columns, begin, end, columns,
                                                result + r * s.head_dim, s.head_dim);
    }
    products.add_values(key, n, scores, result);
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* to = out + query_offset(s, t, r / s.group, r % s.group);
    std::copy(result + r * s.head_dim, result + (r + 1) * s.head_dim, to);
    kernels.scale(to, 1.0f / softmax[static_cast<size_t>(r)].sum, s.head_dim);
  }
}

// The same, query by query: generation.
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
      const float max = kernels.max(scores.data(), visible);
      const float sum = kernels.exp_sum(scores.data(), max, visible);
      kernels.weighted_sum(scores.data(), values, s.kv_stride, visible, s.head_dim, 1.0f / sum,
                           out + offset);
    }
  }
}

bool few_queries(const AttentionRows& rows) { return rows.queries <= kFewQueries; }

// Keys or values [positions, kv_heads, head_dim] of one head, rounded, zeros behind them.
void round_head(const TileShape& s, const float* from, int64_t positions, uint16_t* to) {
  for (int64_t p = 0; p < positions; ++p)
    round_bf16(from + p * s.kv_stride, s.head_dim, to + p * s.head_dim);
  std::fill(to + positions * s.head_dim, to + padded_keys(positions) * s.head_dim, uint16_t{0});
}

// Of all sequences with many queries; in `room`.
std::vector<RoundedSequence> round_sequences(const TileShape& s,
                                             std::span<const AttentionRows> sequences,
                                             FloatBuffer& room, Threads& threads) {
  const int64_t kv_heads = s.kv_stride / s.head_dim;
  const auto values_of = [&](const AttentionRows& rows) {
    return few_queries(rows) ? 0 : padded_keys(rows.first_position + rows.queries) * s.kv_stride;
  };
  int64_t values = 0;
  for (const AttentionRows& rows : sequences) values += values_of(rows);
  auto* to = reinterpret_cast<uint16_t*>(room.get(values + 1));
  std::vector<RoundedSequence> rounded;
  for (const AttentionRows& rows : sequences) {
    rounded.push_back({to, to + values_of(rows)});
    to += 2 * values_of(rows);
  }
  threads.run(sequences.size() * static_cast<size_t>(kv_heads), [&](size_t piece) {
    const size_t i = piece / static_cast<size_t>(kv_heads);
    const auto head = static_cast<int64_t>(piece % static_cast<size_t>(kv_heads));
    const AttentionRows& rows = sequences[i];
    if (few_queries(rows)) return;
    const int64_t positions = rows.first_position + rows.queries;
    const int64_t offset = head * padded_keys(positions) * s.head_dim;
    round_head(s, rows.keys + head * s.head_dim, positions, rounded[i].keys + offset);
    round_head(s, rows.values + head * s.head_dim, positions, rounded[i].values + offset);
  });
  return rounded;
}

RoundedShapes rounded_shapes(const TileShape& s, SmallProducts& products) {
  RoundedShapes shapes;
  const int64_t rows = s.rounded_rows();
  for (size_t i = 0; i < RoundedShapes::kSizes; ++i) {
    const int64_t keys = static_cast<int64_t>(i + 1) * kKeyStep;
    shapes.scores[i] = &products.of({.m = rows, .n = keys, .k = s.head_dim, .transpose_b = true});
    shapes.values[i] = &products.of({.m = rows, .n = s.head_dim, .k = keys, .accumulate = true});
  }
  return shapes;
}

}  // namespace

void CausalAttention::run(const AttentionShape& shape, std::span<const AttentionRows> sequences,
                          const float* q, float* out, Threads& threads) {
  const TileShape s = tile_shape(shape);
  std::vector<Tile> tiles;
  double flops = 0;
  bool round = false;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const AttentionRows& rows = sequences[i];
    round = round || (type_ == ComputeType::kBF16 && !few_queries(rows));
    for (int64_t first = 0; first < rows.queries; first += s.queries()) {
      const int64_t count = std::min(s.queries(), rows.queries - first);
      for (int64_t head = 0; head < shape.kv_heads; ++head)
        tiles.push_back({&rows, i, head, first, count});
      flops += 4.0 * static_cast<double>(count * s.query_stride) *
               static_cast<double>(std::min(rows.first_position + first + count, s.window));
    }
  }
  RoundedShapes shapes;
  std::vector<RoundedSequence> rounded;
  if (round) {
    shapes = rounded_shapes(s, products_);
    rounded = round_sequences(s, sequences, rounded_, threads);
  }
  const auto run = [&](size_t i) {
    const Tile& t = tiles[i];
    if (few_queries(*t.rows)) {
      attend_each(s, t, q, out);
    } else if (round) {
      attend_tile(s, t, q, out, RoundedProducts(s, t, rounded[t.sequence], shapes));
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
