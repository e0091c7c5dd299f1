#include "model/mixers/state_space.h"

#include <algorithm>
#include <cmath>

namespace lewis {
namespace {

LEWIS_VECTORIZED void scan_token(float* state, int64_t state_dim, int64_t n, const float* x,
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

}  // namespace

void scan_states(const StateHead& head, float* state, float* out, int64_t out_stride) {
  for (int64_t t = 0; t < head.rows; ++t) {
    const float step = head.step[t * head.step_stride];
    const int64_t at = t * head.stride;
    scan_token(state, head.state_dim, head.head_dim, head.x + at, head.b + at, head.c + at,
               std::exp(step * head.a), step, head.d, out + t * out_stride);
  }
}

}  // namespace lewis
