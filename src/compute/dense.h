// Dense linear algebra of least squares: products summed in double over many rows, and systems of
// equations that are symmetric and positive definite. All matrices are row-major. Results have the
// same bits for any number of threads: they are cut into fixed tiles, and one thread computes each
// tile in a fixed order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/threads.h"

namespace lewis {

// A view of a matrix of floats or doubles. Row r begins at data + r * stride.
struct FloatMatrix {
  const float* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;
};

// c [a.columns, b.columns] += a^T diag(weights) b. Sums over rows are float32 within 256 rows and
// double beyond. a and b have the same number of rows. weights is [rows]; empty means ones.
void add_products(const FloatMatrix& a, const FloatMatrix& b, std::span<const float> weights,
                  std::span<double> c, Threads& threads);
// Which tiles of a matrix are computed: those whose number is `index` modulo `count`. The others
// keep their values.
struct TileShare {
  size_t index = 0, count = 1;
};

// gram [x.columns, x.columns] += x^T diag(weights) x. Only the lower triangle and the tiles on the
// diagonal are computed; the rest of the upper triangle keeps its values.
void add_gram(const FloatMatrix& x, std::span<const float> weights, std::span<double> gram,
              Threads& threads, TileShare share = {});
// c [a.rows, b.rows] = a b^T. Sums over columns are float32 within 256 columns and double beyond.
void row_products(const FloatMatrix& a, const FloatMatrix& b, std::span<double> c,
                  Threads& threads);
// outer [x.rows, x.rows] = x x^T, the lower triangle only. Sums over columns are float32 within 256
// columns and double beyond.
void outer_products(const FloatMatrix& x, std::span<double> outer, Threads& threads,
                    TileShare share = {});

// Replaces the lower triangle of a [n, n], symmetric and positive definite, by its Cholesky factor.
// The upper triangle is not read, and its values are lost. Returns false when a pivot is not
// positive; a is then unusable.
bool cholesky(std::span<double> a, int64_t n, Threads& threads);
// b [n, columns] = a^-1 b, where `factor` is the Cholesky factor of a.
void cholesky_solve(std::span<const double> factor, int64_t n, std::span<double> b, int64_t columns,
                    Threads& threads);

}  // namespace lewis
