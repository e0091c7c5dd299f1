// Ridge regression for the layers that share an input: min over D of sum_t w_t || D x_t - r_t ||^2
// + rho || D ||^2, for as many residuals r as there are output channels (docs/refine.md).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/threads.h"
#include "compute/dense.h"
#include "refine/communicator.h"

namespace lewis {

struct RidgeOptions {
  double ridge = 0.01;  // rho = ridge * mean of the Gram matrix's diagonal
  double alpha = 1;     // RegMean: off-diagonal entries of the Gram matrix are scaled by it
  bool keep = false;  // the matrix as well, so that other ridges cost no more than a factorisation
  // Who computes the matrix; must live as long as the system.
  const Communicator* ranks = &kOneProcess;
};

// The left side, factored: G + rho I with G = sum_t w_t x_t x_t^T [in, in], or, where there are
// fewer tokens than inputs and alpha is 1, its twin in token space, X X^T + rho I with rows scaled
// by sqrt(w_t). Products of floats are summed in double beyond 256 rows; factors are double.
class RidgeSystem {
 public:
  // x: [tokens, in], kept by the caller while this lives; weights: [tokens], not negative.
  RidgeSystem(const FloatMatrix& x, std::span<const float> weights, const RidgeOptions& options,
              Threads& threads);

  // D [columns, in] for residuals [tokens, columns]. `more` [in, columns], if not empty, is added
  // to the right side alpha X^T W R (RegMean's diagonal part); it must be empty in token space.
  std::vector<double> solve(const FloatMatrix& residuals, std::span<const double> more = {}) const;

  // solve() in two steps, of which only the second depends on the ridge.
  std::vector<double> right_side(const FloatMatrix& residuals,
                                 std::span<const double> more = {}) const;
  std::vector<double> solve_right_side(std::vector<double> right) const;
  // Factors the matrix that was kept for another ridge: the same bits as of a new system.
  void factor_again(double ridge);
  void forget_matrix() { matrix_ = {}; }

  bool in_token_space() const { return token_space_; }
  double rho() const { return rho_; }
  // How often rho was raised tenfold because the factorisation failed.
  int raised() const { return raised_; }
  // The Gram matrix's diagonal, before alpha and rho: [in]. Empty in token space.
  std::span<const double> diagonal() const { return diagonal_; }

 private:
  void build(std::vector<double>& matrix) const;
  void factor(double ridge);
  std::vector<double> products_of(const FloatMatrix& r, std::span<const double> more) const;
  std::vector<double> scaled_rows_of(const FloatMatrix& r) const;

  FloatMatrix x_;
  std::span<const float> weights_;
  double alpha_;
  Threads& threads_;
  const Communicator& ranks_;
  bool token_space_;
  int64_t size_;                // of the system
  std::vector<double> matrix_;  // [size, size], lower triangle: before alpha and rho, where kept
  std::vector<double> factor_;  // likewise
  std::vector<double> diagonal_;
  double rho_ = 0;
  int raised_ = 0;
};

// || sum_t w_t x_t x_t^T ||_F.
double gram_norm(const FloatMatrix& x, std::span<const float> weights, Threads& threads);

}  // namespace lewis
