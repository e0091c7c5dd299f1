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
constexpr int64_t kTileKeys = 512;
constexpr int64_t kFewQueries = 4;  // up to here plain loops beat a multiplication's set-up
constexpr double kParallelFlops = 2e6;

// Some queries of one sequence and the query heads that share one key-value head.
struct Tile {
  const AttentionRows* rows = nullptr;
  int64_t kv_head = 0;
  int64_t first = 0, count = 0;  // queries
};

struct TileShape {
  int64_t group, head_dim;          // query heads of a key-value head
  int64_t query_stride, kv_stride;  // floats from one row to the next
  float scale;
  int64_t window;  // of keys that a query sees; more than there are when all are seen
  float softcap;
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

// Scores and weighted values of a tile as multiplications over blocks of keys.
void attend_tile(const TileShape& s, const Tile& t, const float* q, float* out) {
  const Kernels& kernels = best_kernels();
  const int64_t rows = t.count * s.group;
  const int64_t first_position = t.rows->first_position + t.first;
  const int64_t positions = first_position + t.count;
  FloatBuffer buffer;
  float* queries = buffer.get(rows * (2 * s.head_dim + kTileKeys));  // [rows, head_dim]
  float* result = queries + rows * s.head_dim;                       // [rows, head_dim]
  float* scores = result + rows * s.head_dim;                        // [rows, kTileKeys]
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = q + query_offset(s, t, r / s.group, r % s.group);
    for (int64_t i = 0; i < s.head_dim; ++i) queries[r * s.head_dim + i] = from[i] * s.scale;
  }
  std::fill(result, result + rows * s.head_dim, 0.0f);
  std::vector<OnlineSoftmax> softmax(static_cast<size_t>(rows));
  for (int64_t key = first_key(s, first_position); key < positions; key += kTileKeys) {
    const int64_t n = std::min(kTileKeys, positions - key);
    const int64_t kv_offset = key * s.kv_stride + t.kv_head * s.head_dim;
    gemm({.m = rows,
          .n = n,
          .k = s.head_dim,
          .lda = s.head_dim,
          .ldb = s.kv_stride,
          .ldc = n,
          .transpose_b = true},
         queries, t.rows->keys + kv_offset, scores);
    if (s.softcap != 0) kernels.softcap(scores, s.softcap, rows * n);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t position = first_position + r / s.group;
      const int64_t end = std::clamp<int64_t>(position + 1 - key, 0, n);
      const int64_t begin = std::clamp<int64_t>(first_key(s, position) - key, 0, end);
      softmax[static_cast<size_t>(r)].add_block(kernels, scores + r * n, begin, end, n,
                                                result + r * s.head_dim, s.head_dim);
    }
    gemm({.m = rows,
          .n = s.head_dim,
          .k = n,
          .lda = n,
          .ldb = s.kv_stride,
          .ldc = s.head_dim,
          .accumulate = true},
         scores, t.rows->values + kv_offset, result);
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

}  // namespace

void causal_attention(const AttentionShape& shape, std::span<const AttentionRows> sequences,
                      const float* q, float* out, Threads& threads) {
  const TileShape s = tile_shape(shape);
  const int64_t block = std::max<int64_t>(1, kTileRows / s.group);
  std::vector<Tile> tiles;
  double flops = 0;
  for (const AttentionRows& rows : sequences) {
    for (int64_t first = 0; first < rows.queries; first += block) {
      const int64_t count = std::min(block, rows.queries - first);
      for (int64_t head = 0; head < shape.kv_heads; ++head)
        tiles.push_back({&rows, head, first, count});
      flops += 4.0 * static_cast<double>(count * s.query_stride) *
               static_cast<double>(std::min(rows.first_position + first + count, s.window));
    }
  }
  const auto run = [&](size_t i) {
    const bool few = tiles[i].rows->queries <= kFewQueries;
    (few ? attend_each : attend_tile)(s, tiles[i], q, out);
  };
  if (flops < kParallelFlops) {
    for (size_t i = 0; i < tiles.size(); ++i) run(i);
  } else {
    threads.run(tiles.size(), run);
  }
}

}  // namespace lewis
