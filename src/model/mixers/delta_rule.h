// The gated delta rule (Yang, Kautz and Hatamizadeh, arXiv 2412.06464) for one head of one
// sequence. The state S [key_dim, value_dim] maps keys to values. Each token lets it fade, replaces
// a share of what it holds for the token's key, and reads it by the token's query:
//   S = e^g S;  S += beta k (v - S^T k)^T;  o = S^T q
#pragma once

#include <cstdint>

namespace lewis {

struct DeltaHead {
  int64_t rows = 0, key_dim = 0, value_dim = 0;
  // Rows of a matrix each; q and k are normed, and q has its scale.
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  int64_t key_stride = 0, value_stride = 0;       // of q and k; of v
  const float *decay = nullptr, *beta = nullptr;  // g (0 or less) and beta of each row
  int64_t gate_stride = 0;
};

// Token by token. state: before the first row and after the last. out: [rows, value_dim], its rows
// `stride` apart.
void delta_rule(const DeltaHead& head, float* state, float* out, int64_t stride);

}  // namespace lewis
