// The selective state space of Mamba 2 (Dao and Gu, arXiv 2405.21060) for one head of one sequence.
// The state S [state_dim, head_dim] fades by a rate of the head's times the token's step, takes in
// the token's x at the places that B says, and is read at those that C says:
//   S = e^(step A) S + step B x^T;  y = S^T C + D x
#pragma once

#include <cstdint>

namespace lewis {

struct StateHead {
  int64_t rows = 0, head_dim = 0, state_dim = 0;
  // Rows of one matrix each, `stride` apart.
  const float *x = nullptr, *b = nullptr, *c = nullptr;
  int64_t stride = 0;
  const float* step = nullptr;  // of each row
  int64_t step_stride = 0;
  float a = 0, d = 0;  // A < 0, D
};

// Token by token. state: before the first row and after the last. out: [rows, head_dim], its rows
// out_stride apart.
void scan_states(const StateHead& head, float* state, float* out, int64_t out_stride);

}  // namespace lewis
