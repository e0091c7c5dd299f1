// The selective state space of Mamba 2, in chunks of rows: most of the work is in matrix products.
#pragma once

#include "compute/recurrence.h"

namespace lewis {

// Within a chunk that begins with the state S, let G_t be the sum of step A up to row t. Then
//   y_t = e^G_t S^T C_t + sum over s <= t of e^(G_t - G_s) (C_t B_s) step_s x_s + D x_t
//   S   = e^G_C S + sum over s of e^(G_C - G_s) step_s B_s x_s^T
// Only differences of sums are exponents, and none is above 0.
void scan_states(const StateHeads& heads);

// Computes the same row by row.
void scan_states_by_rows(const StateHeads& heads);

}  // namespace lewis
