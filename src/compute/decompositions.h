// Products, singular values and systems of equations of matrices of doubles whose results have the
// same bits on every processor of one architecture and for any number of threads: they use no
// instruction set beyond the architecture's first one, and every sum is taken in a fixed order.
// compute/dense.h is faster, and keeps its bits on one machine only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/threads.h"

namespace lewis {

// Row-major, without gaps.
struct DoubleMatrix {
  int64_t rows = 0, columns = 0;
  std::vector<double> values;

  DoubleMatrix() = default;
  DoubleMatrix(int64_t row_count, int64_t column_count)
      : rows(row_count), columns(column_count), values(static_cast<size_t>(rows * columns)) {}

  double& at(int64_t row, int64_t column) {
    return values[static_cast<size_t>(row * columns + column)];
  }
  double at(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row * columns + column)];
  }
};

// c [a.rows, b.columns] += a b.
void add_product(const DoubleMatrix& a, const DoubleMatrix& b, DoubleMatrix& c, Threads& threads);
// c [a.rows, b.rows] += a b^T.
void add_product_transposed(const DoubleMatrix& a, const DoubleMatrix& b, DoubleMatrix& c,
                            Threads& threads);
// c [a.columns, a.columns] += factor a^T a.
void add_scaled_gram(const DoubleMatrix& a, double factor, DoubleMatrix& c, Threads& threads);

// a = u diag(values) v^T without the singular values that are zero to the precision of floats:
// those up to max(rows, columns) 2^-24 times the largest. u is [rows, rank], v [columns, rank], and
// the values fall.
struct SingularVectors {
  DoubleMatrix u, v;
  std::vector<double> values;
};
// One for each matrix, which are decomposed beside each other.
std::vector<SingularVectors> singular_vectors(std::span<const DoubleMatrix> matrices,
                                              Threads& threads);
// The orthogonal factor u v^T of a; the part of a whose singular values count as zero stays out.
DoubleMatrix orthogonal_factor(const DoubleMatrix& a, Threads& threads);

// The largest singular value with its vectors, by Lanczos' method (Golub and Van Loan, "Matrix
// Computations", section 10.4). A matrix of zeros has the value 0 and vectors of zeros.
struct SingularTriple {
  double value = 0;
  std::vector<double> u, v;  // [rows], [columns]
};
SingularTriple leading_singular_vectors(const DoubleMatrix& a, Threads& threads);

// b [b.rows, n] = b a^-1, where a [n, n] is symmetric and positive definite; a is lost. Returns
// false when a is not positive definite; b is then unusable.
bool divide_by_symmetric(DoubleMatrix& a, DoubleMatrix& b, Threads& threads);

}  // namespace lewis
