// Dense linear algebra of least squares: products summed in double over many rows, and systems of
// equations that are symmetric and positive definite. All matrices are row-major. The same bits for
// any number of threads: results are cut into fixed tiles, each computed by one thread, in order.
#pragma once

#include <cstdint>
#include <span>

#include "base/threads.h"

namespace lewis {

// A matrix of floats or doubles that somebody else owns: row r begins at data + r * stride.
struct FloatMatrix {
  const float* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;
};

// c [a.columns, b.columns] += a^T diag(weights) b: a sum over rows, in float32 within 256 rows, in
// double beyond. a and b have the same rows; weights: [rows], or empty for ones.
void add_products(const FloatMatrix& a, const FloatMatrix& b, std::span<const float> weights,
                  std::span<double> c, Threads& threads);
// gram [x.columns, x.columns] += x^T diag(weights) x: the lower triangle and the tiles on the
// diagonal; what is above them is left as it is.
void add_gram(const FloatMatrix& x, std::span<const float> weights, std::span<double> gram,
              Threads& threads);
// outer [x.rows, x.rows] = x x^T, the lower triangle, summed likewise over 256 columns.
void outer_products(const FloatMatrix& x, std::span<double> outer, Threads& threads);

// The lower triangle of a [n, n], symmetric and positive definite, becomes its Cholesky factor; the
// upper one is neither read nor kept. False when a pivot is not positive (then a is spoilt).
bool cholesky(std::span<double> a, int64_t n, Threads& threads);
// b [n, columns] = a^-1 b, where `factor` is what cholesky made of a.
void cholesky_solve(std::span<const double> factor, int64_t n, std::span<double> b, int64_t columns,
                    Threads& threads);

}  // namespace lewis
