#include "compute/cpu/delta_rule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "compute/cpu/chunk_decay.h"
#include "compute/cpu/matmul.h"
#include "compute/float_buffer.h"

namespace lewis {
namespace {

constexpr int64_t kBlock = 16;  // rows whose u_t are found one by one

// One row: v is overwritten by the output; held and read are working memory, [value_dim] each.
LEWIS_VECTORIZED void take_row(float* state, int64_t key_dim, int64_t n, const float* q,
                               const float* k, float fade, float beta, float* v, float* held,
                               float* read) {
  std::fill_n(held, n, 0.0f);
  for (int64_t i = 0; i < key_dim; ++i) {
    float* row = state + i * n;
    const float key = k[i];
    for (int64_t j = 0; j < n; ++j) {
      row[j] *= fade;
      held[j] += row[j] * key;
    }
  }
  for (int64_t j = 0; j < n; ++j) held[j] = (v[j] - held[j]) * beta;
  std::fill_n(read, n, 0.0f);
  for (int64_t i = 0; i < key_dim; ++i) {
    float* row = state + i * n;
    const float key = k[i], query = q[i];
    for (int64_t j = 0; j < n; ++j) {
      row[j] += key * held[j];
      read[j] += row[j] * query;
    }
  }
  std::copy_n(read, n, v);
}

// u[t] += sum over s < t of factors[t, s] u[s], for rows [rows, n]; factors are `stride` apart.
LEWIS_VECTORIZED void substitute(const float* factors, int64_t stride, int64_t rows, int64_t n,
                                 float* u) {
  for (int64_t t = 1; t < rows; ++t) {
    float* to = u + t * n;
    for (int64_t s = 0; s < t; ++s) {
      const float* from = u + s * n;
      const float factor = factors[t * stride + s];
      for (int64_t j = 0; j < n; ++j) to[j] += factor * from[j];
    }
  }
}

// u_t = beta_t (v_t - fade_t u_t); out_t = fade_t read_t. The latter come from the state alone.
LEWIS_VECTORIZED void begin_row(const float* v, const float* read, float fade, float beta,
                                int64_t n, float* u, float* out) {
  for (int64_t j = 0; j < n; ++j) {
    u[j] = beta * (v[j] - fade * u[j]);
    out[j] = fade * read[j];
  }
}

LEWIS_VECTORIZED void multiply(float* x, float factor, int64_t n) {
  for (int64_t j = 0; j < n; ++j) x[j] *= factor;
}

// The rows [first, first + rows) of a head, and the working memory for them.
struct Chunk {
  const DeltaHead& head;
  int64_t first, rows;
  float* queries;        // [2 rows, key_dim]: queries, then keys
  float* keys;           // the latter
  float* read;           // [2 rows, value_dim]: what the state has for them, then u
  float* u;              // the latter
  float* query_factors;  // [2 rows, rows]: products with the keys, faded, and 0 for later rows
  float* key_factors;    // the latter, times -beta, and 0 on the diagonal
};

int64_t working_values(const DeltaHead& head) {
  return 2 * kChunkRows * (head.key_dim + head.value_dim + kChunkRows);
}

Chunk chunk_of(const DeltaHead& head, int64_t first, int64_t rows, float* room) {
  float* read = room + 2 * rows * head.key_dim;
  float* factors = read + 2 * rows * head.value_dim;
  return {head,
          first,
          rows,
          room,
          room + rows * head.key_dim,
          read,
          read + rows * head.value_dim,
          factors,
          factors + rows * rows};
}

// The products that need no u: of queries and keys with the state and with the keys.
void multiply_keys(const Chunk& c) {
  const DeltaHead& h = c.head;
  for (int64_t t = 0; t < c.rows; ++t) {
    const int64_t at = (c.first + t) * h.key_stride;
    std::copy_n(h.q + at, h.key_dim, c.queries + t * h.key_dim);
    std::copy_n(h.k + at, h.key_dim, c.keys + t * h.key_dim);
  }
  gemm({.m = 2 * c.rows,
        .n = h.value_dim,
        .k = h.key_dim,
        .lda = h.key_dim,
        .ldb = h.value_dim,
        .ldc = h.value_dim},
       c.queries, h.state, c.read);
  gemm({.m = 2 * c.rows,
        .n = c.rows,
        .k = h.key_dim,
        .lda = h.key_dim,
        .ldb = h.key_dim,
        .ldc = c.rows,
        .transpose_b = true},
       c.queries, c.keys, c.query_factors);
}

// Lets the products fade, and begins u and the output with what the state has.
void begin_rows(const Chunk& c, const ChunkDecay& decay) {
  const DeltaHead& h = c.head;
  std::array<float, kChunkRows> fade;
  for (int64_t t = 0; t < c.rows; ++t) {
    const float beta = h.beta[(c.first + t) * h.gate_stride];
    decay.of_rows(t, fade.data());
    float *queries = c.query_factors + t * c.rows, *keys = c.key_factors + t * c.rows;
    for (int64_t s = 0; s <= t; ++s) {
      queries[s] *= fade[static_cast<size_t>(s)];
      keys[s] *= -beta * fade[static_cast<size_t>(s)];
    }
    std::fill(queries + t + 1, queries + c.rows, 0.0f);
    std::fill(keys + t, keys + c.rows, 0.0f);
    begin_row(h.v + (c.first + t) * h.value_stride, c.read + t * h.value_dim, decay.of_state(t),
              beta, h.value_dim, c.u + t * h.value_dim, h.out + (c.first + t) * h.out_stride);
  }
}

// u_t of all rows, block after block: the products with the blocks before, then row by row.
void find_rows(const Chunk& c) {
  const int64_t n = c.head.value_dim;
  for (int64_t t = 0; t < c.rows; t += kBlock) {
    const int64_t rows = std::min(kBlock, c.rows - t);
    const float* factors = c.key_factors + t * c.rows;
    if (t > 0) {
      gemm({.m = rows, .n = n, .k = t, .lda = c.rows, .ldb = n, .ldc = n, .accumulate = true},
           factors, c.u, c.u + t * n);
    }
    substitute(factors + t, c.rows, rows, n, c.u + t * n);
  }
}

void add_to_output(const Chunk& c) {
  const DeltaHead& h = c.head;
  gemm({.m = c.rows,
        .n = h.value_dim,
        .k = c.rows,
        .lda = c.rows,
        .ldb = h.value_dim,
        .ldc = h.out_stride,
        .accumulate = true},
       c.query_factors, c.u, h.out + c.first * h.out_stride);
}

// Overwrites the keys.
void add_to_state(const Chunk& c, const ChunkDecay& decay) {
  const DeltaHead& h = c.head;
  std::array<float, kChunkRows> left;
  decay.of_rows(c.rows - 1, left.data());
  for (int64_t t = 0; t < c.rows; ++t)
    multiply(c.keys + t * h.key_dim, left[static_cast<size_t>(t)], h.key_dim);
  multiply(h.state, decay.of_state(), h.key_dim * h.value_dim);
  gemm({.m = h.key_dim,
        .n = h.value_dim,
        .k = c.rows,
        .lda = h.key_dim,
        .ldb = h.value_dim,
        .ldc = h.value_dim,
        .accumulate = true,
        .transpose_a = true},
       c.keys, c.u, h.state);
}

void take_rows(const DeltaHead& h, int64_t first, int64_t rows) {
  const int64_t n = h.value_dim;
  std::vector<float> room(static_cast<size_t>(2 * n));
  for (int64_t t = first; t < first + rows; ++t) {
    float* row = h.out + t * h.out_stride;
    std::copy_n(h.v + t * h.value_stride, n, row);
    take_row(h.state, h.key_dim, n, h.q + t * h.key_stride, h.k + t * h.key_stride,
             std::exp(h.decay[t * h.gate_stride]), h.beta[t * h.gate_stride], row, room.data(),
             room.data() + n);
  }
}

}  // namespace

void delta_rule(const DeltaHead& head) {
  thread_local FloatBuffer buffer;
  const auto take_chunk = [&](int64_t first, int64_t rows) {
    const Chunk chunk = chunk_of(head, first, rows, buffer.get(working_values(head)));
    const ChunkDecay decay(head.decay + first * head.gate_stride, head.gate_stride, 1, rows);
    multiply_keys(chunk);
    begin_rows(chunk, decay);
    find_rows(chunk);
    add_to_output(chunk);
    add_to_state(chunk, decay);
  };
  in_chunks(head.rows, take_chunk,
            [&](int64_t first, int64_t rows) { take_rows(head, first, rows); });
}

void delta_rule_by_rows(const DeltaHead& head) { take_rows(head, 0, head.rows); }

}  // namespace lewis
