#include "compute/cpu/state_space.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "compute/cpu/chunk_decay.h"
#include "compute/cpu/matmul.h"
#include "compute/float_buffer.h"

namespace lewis {
namespace {

LEWIS_VECTORIZED void scan_row(float* state, int64_t state_dim, int64_t n, const float* x,
                               const float* b, const float* c, float fade, float step, float d,
                               float* y) {
  for (int64_t j = 0; j < n; ++j) y[j] = d * x[j];
  for (int64_t i = 0; i < state_dim; ++i) {
    float* row = state + i * n;
    const float in = step * b[i], out = c[i];
    for (int64_t j = 0; j < n; ++j) {
      row[j] = row[j] * fade + in * x[j];
      y[j] += row[j] * out;
    }
  }
}

LEWIS_VECTORIZED void scale_into(const float* x, float factor, int64_t n, float* y) {
  for (int64_t j = 0; j < n; ++j) y[j] = factor * x[j];
}

// y = fade y + d x
LEWIS_VECTORIZED void fade_row(const float* x, float fade, float d, int64_t n, float* y) {
  for (int64_t j = 0; j < n; ++j) y[j] = fade * y[j] + d * x[j];
}

// The rows [first, first + rows) of some heads, and the working memory for them.
struct ScanChunk {
  const StateHeads& heads;
  int64_t first, rows;
  const float *x, *b, *c;  // the first row of each
  float* products;         // [rows, rows]: C_t B_s
  float* factors;          // [rows, rows]: the same for one head, faded, times the step of s
  float* faded;            // [rows, state_dim]: B_s for one head, faded, times its step
};

int64_t scan_values(const StateHeads& heads) {
  return kChunkRows * (2 * kChunkRows + heads.state_dim);
}

ScanChunk scan_chunk(const StateHeads& heads, int64_t first, int64_t rows, float* room) {
  const int64_t at = first * heads.stride;
  return {heads,
          first,
          rows,
          heads.x + at,
          heads.b + at,
          heads.c + at,
          room,
          room + rows * rows,
          room + 2 * rows * rows};
}

void multiply_reads(const ScanChunk& c) {
  gemm({.m = c.rows,
        .n = c.rows,
        .k = c.heads.state_dim,
        .lda = c.heads.stride,
        .ldb = c.heads.stride,
        .ldc = c.rows,
        .transpose_b = true},
       c.c, c.b, c.products);
}

// Lets the products fade for one head.
void fade_products(const ScanChunk& c, const ChunkDecay& decay, const float* steps) {
  std::array<float, kChunkRows> fade;
  for (int64_t t = 0; t < c.rows; ++t) {
    decay.of_rows(t, fade.data());
    float* to = c.factors + t * c.rows;
    for (int64_t s = 0; s <= t; ++s) {
      const float step = steps[s * c.heads.step_stride];
      to[s] = c.products[t * c.rows + s] * (fade[static_cast<size_t>(s)] * step);
    }
    std::fill(to + t + 1, to + c.rows, 0.0f);
  }
}

// The rows of one head's output.
void read_states(const ScanChunk& c, int64_t head, const ChunkDecay& decay, const float* state) {
  const StateHeads& h = c.heads;
  const float* x = c.x + head * h.head_dim;
  float* out = h.out + c.first * h.out_stride + head * h.head_dim;
  GemmShape shape = {.m = c.rows,
                     .n = h.head_dim,
                     .k = h.state_dim,
                     .lda = h.stride,
                     .ldb = h.head_dim,
                     .ldc = h.out_stride};
  gemm(shape, c.c, state, out);
  for (int64_t t = 0; t < c.rows; ++t)
    fade_row(x + t * h.stride, decay.of_state(t), h.d[head], h.head_dim, out + t * h.out_stride);
  shape.k = shape.lda = c.rows;
  shape.ldb = h.stride;
  shape.accumulate = true;
  gemm(shape, c.factors, x, out);
}

void update_state(const ScanChunk& c, int64_t head, const ChunkDecay& decay, const float* steps,
                  float* state) {
  const StateHeads& h = c.heads;
  std::array<float, kChunkRows> left;
  decay.of_rows(c.rows - 1, left.data());
  for (int64_t t = 0; t < c.rows; ++t) {
    scale_into(c.b + t * h.stride, left[static_cast<size_t>(t)] * steps[t * h.step_stride],
               h.state_dim, c.faded + t * h.state_dim);
  }
  scale_into(state, decay.of_state(), h.state_dim * h.head_dim, state);
  gemm({.m = h.state_dim,
        .n = h.head_dim,
        .k = c.rows,
        .lda = h.state_dim,
        .ldb = h.stride,
        .ldc = h.head_dim,
        .accumulate = true,
        .transpose_a = true},
       c.faded, c.x + head * h.head_dim, state);
}

void scan_rows(const StateHeads& h, int64_t first, int64_t rows) {
  for (int64_t head = 0; head < h.heads; ++head) {
    for (int64_t t = first; t < first + rows; ++t) {
      const float step = h.step[t * h.step_stride + head];
      const int64_t at = t * h.stride;
      scan_row(h.state + head * h.state_dim * h.head_dim, h.state_dim, h.head_dim,
               h.x + at + head * h.head_dim, h.b + at, h.c + at, std::exp(step * h.a[head]), step,
               h.d[head], h.out + t * h.out_stride + head * h.head_dim);
    }
  }
}

}  // namespace

void scan_states(const StateHeads& heads) {
  thread_local FloatBuffer buffer;
  const auto scan_chunk_of = [&](int64_t first, int64_t rows) {
    const ScanChunk chunk = scan_chunk(heads, first, rows, buffer.get(scan_values(heads)));
    multiply_reads(chunk);
    for (int64_t head = 0; head < heads.heads; ++head) {
      const float* steps = heads.step + first * heads.step_stride + head;
      float* state = heads.state + head * heads.state_dim * heads.head_dim;
      const ChunkDecay decay(steps, heads.step_stride, heads.a[head], rows);
      fade_products(chunk, decay, steps);
      read_states(chunk, head, decay, state);
      update_state(chunk, head, decay, steps, state);
    }
  };
  in_chunks(heads.rows, scan_chunk_of,
            [&](int64_t first, int64_t rows) { scan_rows(heads, first, rows); });
}

void scan_states_by_rows(const StateHeads& heads) { scan_rows(heads, 0, heads.rows); }

}  // namespace lewis
