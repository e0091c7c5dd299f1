// Loops over one row, compiled for several instruction sets; the program chooses the best one of
// the machine at run time. Sums have a fixed order, so a row's result depends on that row alone.
#pragma once

#include <cstdint>

namespace lewis {

struct Kernels {
  // y = x * rsqrt(mean(x^2) + epsilon) * weight; y may be x.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, float* y);
  // y = (x - mean(x)) * rsqrt(variance(x) + epsilon) * weight (+ bias unless null); y may be x.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t n,
                     float epsilon, float* y);
  // Turns `heads` consecutive heads in place: (a, b) -> (a cos - b sin, b cos + a sin) for the
  // pairs (i, i + half). cos and sin are [half].
  void (*rope)(float* x, int64_t heads, int64_t head_dim, int64_t half, const float* cos,
               const float* sin);
  // Does the same for the pairs (2 i, 2 i + 1).
  void (*rope_neighbours)(float* x, int64_t heads, int64_t head_dim, int64_t half, const float* cos,
                          const float* sin);
  // y = activation(gate) * up; if up is null, y = activation(gate). y may be gate. Indexed by
  // Activation.
  void (*activate[5])(const float* gate, const float* up, int64_t n, float* y);
  void (*add)(float* x, const float* y, int64_t n);  // x += y
  void (*scale)(float* x, float factor, int64_t n);  // x *= factor
  void (*softcap)(float* x, float cap, int64_t n);   // x = cap * tanh(x / cap)
  float (*max)(const float* x, int64_t n);           // n > 0
  float (*exp_sum)(float* x, float max, int64_t n);  // x = exp(x - max); its sum
  // scores[i] = scale * dot(query[n], keys + i * stride) for i < count.
  void (*dots)(const float* query, const float* keys, int64_t stride, int64_t count, int64_t n,
               float scale, float* scores);
  // out[n] = factor * sum of weights[i] * (values + i * stride) over i < count.
  void (*weighted_sum)(const float* weights, const float* values, int64_t stride, int64_t count,
                       int64_t n, float factor, float* out);
};

// The best kernels for this machine.
const Kernels& best_kernels();

}  // namespace lewis
