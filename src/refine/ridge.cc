#include "refine/ridge.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace lewis {
namespace {

// The smallest rho that is tried for a singular system without ridge, relative to the diagonal.
constexpr double kLeastRidge = 1e-12;
constexpr int kMostRaises = 16;

}  // namespace

RidgeSystem::RidgeSystem(const FloatMatrix& x, std::span<const float> weights,
                         const RidgeOptions& options, Threads& threads)
    : x_(x),
      weights_(weights),
      alpha_(options.alpha),
      threads_(threads),
      ranks_(*options.ranks),
      token_space_(x.rows < x.columns && options.alpha == 1),
      size_(token_space_ ? x.rows : x.columns) {
  if (static_cast<int64_t>(weights.size()) != x.rows)
    throw failed_error("ridge: {} weights for {} tokens", weights.size(), x.rows);
  if (options.keep) build(matrix_);
  factor(options.ridge);
}

void RidgeSystem::factor_again(double ridge) {
  if (matrix_.empty()) throw failed_error("ridge: the matrix was not kept");
  raised_ = 0;
  factor(ridge);
}

namespace {

// The lower triangle of G, or of X X^T with scaled rows; all processes compute tiles of it.
void build_matrix(const FloatMatrix& x, std::span<const float> weights, bool token_space,
                  std::vector<double>& matrix, const Communicator& ranks, Threads& threads) {
  const auto size = static_cast<size_t>(token_space ? x.rows : x.columns);
  const TileShare share{ranks.rank(), ranks.size()};
  matrix.assign(size * size, 0.0);
  if (!token_space) {
    add_gram(x, weights, matrix, threads, share);
    ranks.join(matrix);
    return;
  }
  outer_products(x, matrix, threads, share);
  ranks.join(matrix);
  threads.run(size, [&](size_t i) {
    double* row = matrix.data() + i * size;
    const double scale = std::sqrt(static_cast<double>(weights[i]));
    for (size_t j = 0; j <= i; ++j) row[j] *= scale * std::sqrt(static_cast<double>(weights[j]));
  });
}

}  // namespace

double gram_norm(const FloatMatrix& x, std::span<const float> weights, Threads& threads) {
  std::vector<double> matrix;
  build_matrix(x, weights, x.rows < x.columns, matrix, kOneProcess, threads);
  const auto n = static_cast<size_t>(std::min(x.rows, x.columns));
  double squares = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j)
      squares += (i == j ? 1 : 2) * matrix[i * n + j] * matrix[i * n + j];
  }
  return std::sqrt(squares);
}

void RidgeSystem::build(std::vector<double>& matrix) const {
  build_matrix(x_, weights_, token_space_, matrix, ranks_, threads_);
}

void RidgeSystem::factor(double ridge) {
  const auto n = static_cast<size_t>(size_);
  for (;; ridge = std::max(10 * ridge, kLeastRidge), ++raised_) {
    matrix_.empty() ? build(factor_) : factor_.assign(matrix_.begin(), matrix_.end());
    std::vector<double> diagonal(n);
    for (size_t i = 0; i < n; ++i) diagonal[i] = factor_[i * n + i];
    const double trace = std::accumulate(diagonal.begin(), diagonal.end(), 0.0);
    if (!std::isfinite(trace)) {
      throw input_error(
          "the calibration text drives activations to infinity or NaN; the weights before them "
          "are too large for float32 or damaged");
    }
    rho_ = ridge * trace / static_cast<double>(x_.columns);
    for (size_t i = 0; i < n; ++i) {
      if (alpha_ != 1) {
        for (size_t j = 0; j < i; ++j) factor_[i * n + j] *= alpha_;
      }
      factor_[i * n + i] += rho_;
    }
    if (!token_space_) diagonal_ = std::move(diagonal);
    if (cholesky(factor_, size_, threads_)) return;
    if (raised_ == kMostRaises)
      throw failed_error("ridge: the system is singular even with rho = {}", rho_);
  }
}

std::vector<double> RidgeSystem::solve(const FloatMatrix& residuals,
                                       std::span<const double> more) const {
  return solve_right_side(right_side(residuals, more));
}

std::vector<double> RidgeSystem::right_side(const FloatMatrix& residuals,
                                            std::span<const double> more) const {
  if (residuals.rows != x_.rows || (token_space_ && !more.empty()))
    throw failed_error("ridge: the residuals do not fit the system");
  return token_space_ ? scaled_rows_of(residuals) : products_of(residuals, more);
}

namespace {

// [rows, columns] -> [columns, rows]
std::vector<double> transposed(std::span<const double> a, int64_t rows, int64_t columns,
                               Threads& threads) {
  std::vector<double> t(a.size());
  constexpr int64_t kBlock = 64;
  threads.run(static_cast<size_t>((columns + kBlock - 1) / kBlock), [&](size_t piece) {
    const int64_t begin = static_cast<int64_t>(piece) * kBlock;
    const int64_t end = std::min(columns, begin + kBlock);
    for (int64_t first = 0; first < rows; first += kBlock) {
      for (int64_t c = begin; c < end; ++c) {
        for (int64_t r = first; r < std::min(rows, first + kBlock); ++r)
          t[static_cast<size_t>(c * rows + r)] = a[static_cast<size_t>(r * columns + c)];
      }
    }
  });
  return t;
}

}  // namespace

// alpha X^T diag(w) R + more, [in, columns].
std::vector<double> RidgeSystem::products_of(const FloatMatrix& r,
                                             std::span<const double> more) const {
  std::vector<double> b(static_cast<size_t>(size_ * r.columns));
  add_products(x_, r, weights_, b, threads_);
  if (alpha_ != 1) {
    for (double& v : b) v *= alpha_;
  }
  for (size_t i = 0; i < more.size(); ++i) b[i] += more[i];
  return b;
}

// The rows of R times sqrt(w), [tokens, columns].
std::vector<double> RidgeSystem::scaled_rows_of(const FloatMatrix& r) const {
  std::vector<double> z(static_cast<size_t>(size_ * r.columns));
  threads_.run(static_cast<size_t>(size_), [&](size_t t) {
    const double scale = std::sqrt(static_cast<double>(weights_[t]));
    const float* from = r.data + static_cast<int64_t>(t) * r.stride;
    double* to = z.data() + static_cast<int64_t>(t) * r.columns;
    for (int64_t c = 0; c < r.columns; ++c) to[c] = scale * static_cast<double>(from[c]);
  });
  return z;
}

// In token space D = Z^T X with (X X^T + rho I) Z = R, all rows scaled by sqrt(w).
std::vector<double> RidgeSystem::solve_right_side(std::vector<double> b) const {
  const int64_t n = size_, columns = static_cast<int64_t>(b.size()) / n;
  cholesky_solve(factor_, n, b, columns, threads_);
  if (!token_space_) return transposed(b, n, columns, threads_);
  std::vector<float> scaled(b.size());
  threads_.run(static_cast<size_t>(n), [&](size_t t) {
    const double scale = std::sqrt(static_cast<double>(weights_[t]));
    for (int64_t c = 0; c < columns; ++c) {
      const auto i = static_cast<size_t>(static_cast<int64_t>(t) * columns + c);
      scaled[i] = static_cast<float>(scale * b[i]);
    }
  });
  std::vector<double> d(static_cast<size_t>(columns * x_.columns));
  add_products({scaled.data(), n, columns, columns}, x_, {}, d, threads_);
  return d;
}

}  // namespace lewis
