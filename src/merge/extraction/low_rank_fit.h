// The product of two thin matrices that is nearest to a matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "base/threads.h"
#include "compute/dense.h"

namespace lewis {

struct LowRankFit {
  int64_t rank = 0;
  std::vector<float> a;        // [rank, columns]
  std::vector<float> b;        // [rows, rank]
  std::vector<double> values;  // the singular values that were found, more than rank, falling
};

// b a that minimises || (d - b a) diag(weights) ||_F: the singular vectors of d diag(weights), each
// factor with the square roots of the singular values. A randomised range finder with three steps
// of power iteration (Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review
// 2011, algorithms 4.4 and 5.1) makes it; with as many samples as d has rows or columns it is
// exact. `weights` [columns] are positive; empty: ones. The rank is less where d has less. The bits
// depend on d, weights, rank and `random` alone.
LowRankFit fit_low_rank(const FloatMatrix& d, std::span<const float> weights, int64_t rank,
                        const TensorRandom& random, Threads& threads);

// The squares of the entries of (d - b a) diag(weights), summed.
double squared_residual(const FloatMatrix& d, std::span<const float> weights,
                        std::span<const float> b, std::span<const float> a, int64_t rank,
                        Threads& threads);

}  // namespace lewis
