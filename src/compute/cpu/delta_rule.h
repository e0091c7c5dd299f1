// The gated delta rule, in chunks of rows: most of the work is in matrix products.
#pragma once

#include "compute/recurrence.h"

namespace lewis {

// Within a chunk that begins with the state S, let G_t be the sum of g up to row t, and U the rows
// u_t that the state takes in for the keys. Then
//   u_t = beta_t (v_t - e^G_t S^T k_t - sum over s < t of e^(G_t - G_s) (k_s k_t) u_s)
//   o_t = e^G_t S^T q_t + sum over s <= t of e^(G_t - G_s) (k_s q_t) u_s
//   S   = e^G_C S + sum over s of e^(G_C - G_s) k_s u_s^T
// Only differences of sums are exponents, and none is above 0. The rows u_t are found one after the
// other, by forward substitution, so errors do not grow as they do with an inverse.
void delta_rule(const DeltaHead& head);

// Computes the same row by row.
void delta_rule_by_rows(const DeltaHead& head);

}  // namespace lewis
