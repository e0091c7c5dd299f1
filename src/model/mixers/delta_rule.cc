#include "model/mixers/delta_rule.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace lewis {
namespace {

// One token: v is overwritten by the output; held and read are working memory, [value_dim] each.
LEWIS_VECTORIZED void step(float* state, int64_t key_dim, int64_t n, const float* q, const float* k,
                           float fade, float beta, float* v, float* held, float* read) {
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

}  // namespace

void delta_rule(const DeltaHead& head, float* state, float* out, int64_t stride) {
  const int64_t n = head.value_dim;
  std::vector<float> room(static_cast<size_t>(2 * n));
  for (int64_t t = 0; t < head.rows; ++t) {
    float* row = out + t * stride;
    std::copy_n(head.v + t * head.value_stride, n, row);
    step(state, head.key_dim, n, head.q + t * head.key_stride, head.k + t * head.key_stride,
         std::exp(head.decay[t * head.gate_stride]), head.beta[t * head.gate_stride], row,
         room.data(), room.data() + n);
  }
}

}  // namespace lewis
