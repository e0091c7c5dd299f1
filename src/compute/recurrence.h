// Recurrences over the tokens of one sequence: a state that fades, takes each token in, and is
// read. Backend computes them; a state goes from one call to the next.
#pragma once

#include <cstdint>

namespace lewis {

// The gated delta rule (Yang, Kautz and Hatamizadeh, arXiv 2412.06464) for one head of one
// sequence. The state S [key_dim, value_dim] maps keys to values. Each token lets it fade, replaces
// a share of what it holds for the token's key, and reads it by the token's query:
//   S = e^g S;  S += beta k (v - S^T k)^T;  o = S^T q
struct DeltaHead {
  int64_t rows = 0, key_dim = 0, value_dim = 0;
  // Rows of a matrix each; q and k are normed, and q has its scale.
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  int64_t key_stride = 0, value_stride = 0;       // of q and k; of v
  const float *decay = nullptr, *beta = nullptr;  // g (0 or less) and beta of each row
  int64_t gate_stride = 0;
  float* state = nullptr;  // before the first row, and after the last one
  float* out = nullptr;    // [rows, value_dim], its rows out_stride apart; it overlaps with nothing
  int64_t out_stride = 0;
};

// The selective state space of Mamba 2 (Dao and Gu, arXiv 2405.21060) for some heads of one
// sequence that share B and C. A head's state S [state_dim, head_dim] fades by the head's rate
// times the token's step, takes in the token's x at the places that B says, and is read at those
// that C says:
//   S = e^(step A) S + step B x^T;  y = S^T C + D x
struct StateHeads {
  int64_t rows = 0, heads = 0, head_dim = 0, state_dim = 0;
  // Rows of one matrix each, `stride` apart: x [heads, head_dim], B and C [state_dim].
  const float *x = nullptr, *b = nullptr, *c = nullptr;
  int64_t stride = 0;
  const float* step = nullptr;  // of each row and head, its rows step_stride apart
  int64_t step_stride = 0;
  const float *a = nullptr, *d = nullptr;  // [heads]; A is 0 or less
  float* state = nullptr;                  // [heads, state_dim, head_dim], as above
  float* out = nullptr;                    // [rows, heads, head_dim], its rows out_stride apart
  int64_t out_stride = 0;
};

}  // namespace lewis
