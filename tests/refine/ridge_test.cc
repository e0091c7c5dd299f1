// Ridge regression against Gaussian elimination on the normal equations in double.
#include "refine/ridge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace lewis {
namespace {

struct Problem {
  int64_t tokens, in, columns;
  std::vector<float> x, r, w;  // [tokens, in], [tokens, columns], [tokens]
  FloatMatrix inputs() const { return {x.data(), tokens, in, in}; }
  FloatMatrix residuals() const { return {r.data(), tokens, columns, columns}; }
};

// Whole numbers: every sum of products is exact in float32, so that what differs is the solver.
Problem whole_numbers(int64_t tokens, int64_t in, int64_t columns) {
  std::mt19937 random(3);
  std::uniform_int_distribution<int> number(-8, 8), quarter(0, 4);
  Problem p{tokens, in, columns, {}, {}, {}};
  for (int64_t i = 0; i < tokens * in; ++i) p.x.push_back(static_cast<float>(number(random)));
  for (int64_t i = 0; i < tokens * columns; ++i) p.r.push_back(static_cast<float>(number(random)));
  for (int64_t i = 0; i < tokens; ++i) p.w.push_back(0.25f * static_cast<float>(quarter(random)));
  return p;
}

// D [columns, in] of (alpha-scaled G + rho I) D^T = alpha X^T W R + more, by elimination.
std::vector<double> brute_force(const Problem& p, double ridge, double alpha,
                                const std::vector<double>& more) {
  const int64_t n = p.in, m = p.columns;
  std::vector<double> a(static_cast<size_t>(n * (n + m)));  // [G | B]
  for (int64_t t = 0; t < p.tokens; ++t) {
    for (int64_t i = 0; i < n; ++i) {
      const double wx = static_cast<double>(p.w[t]) * p.x[t * n + i];
      for (int64_t j = 0; j < n; ++j)
        a[i * (n + m) + j] += (i == j ? 1 : alpha) * wx * p.x[t * n + j];
      for (int64_t c = 0; c < m; ++c) a[i * (n + m) + n + c] += alpha * wx * p.r[t * m + c];
    }
  }
  double trace = 0;
  for (int64_t i = 0; i < n; ++i) trace += a[i * (n + m) + i];
  for (int64_t i = 0; i < n; ++i) {
    a[i * (n + m) + i] += ridge * trace / static_cast<double>(n);
    for (int64_t c = 0; c < m && !more.empty(); ++c) a[i * (n + m) + n + c] += more[i * m + c];
  }
  for (int64_t k = 0; k < n; ++k) {
    for (int64_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const double f = a[i * (n + m) + k] / a[k * (n + m) + k];
      for (int64_t j = k; j < n + m; ++j) a[i * (n + m) + j] -= f * a[k * (n + m) + j];
    }
  }
  std::vector<double> d(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < m; ++c) d[c * n + i] = a[i * (n + m) + n + c] / a[i * (n + m) + i];
  }
  return d;
}

double relative_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(a[i] - b[i]));
    size = std::max(size, std::abs(b[i]));
  }
  return difference / size;
}

TEST(Ridge, IsLeastSquares) {
  Threads threads(2);
  const Problem p = whole_numbers(400, 70, 33);
  const RidgeSystem system(p.inputs(), p.w, {.ridge = 0.01}, threads);
  EXPECT_FALSE(system.in_token_space());
  EXPECT_LT(relative_difference(system.solve(p.residuals()), brute_force(p, 0.01, 1, {})), 1e-8);
}

// D = Z^T X is a product of floats at the end.
TEST(Ridge, IsTheSameInTokenSpace) {
  Threads threads(2);
  Problem p = whole_numbers(50, 90, 33);
  const RidgeSystem system(p.inputs(), p.w, {.ridge = 0.01}, threads);
  EXPECT_TRUE(system.in_token_space());
  const auto d = system.solve(p.residuals());
  EXPECT_LT(relative_difference(d, brute_force(p, 0.01, 1, {})), 1e-6);
  // More tokens that weigh nothing: the other way to the same result.
  const double rho = system.rho();
  p.tokens = 95;
  p.x.resize(static_cast<size_t>(p.tokens * p.in), 1.0f);
  p.r.resize(static_cast<size_t>(p.tokens * p.columns), 1.0f);
  p.w.resize(static_cast<size_t>(p.tokens));
  const RidgeSystem primal(p.inputs(), p.w, {.ridge = 0.01}, threads);
  EXPECT_FALSE(primal.in_token_space());
  EXPECT_NEAR(primal.rho(), rho, 1e-12 * rho);
  EXPECT_LT(relative_difference(d, primal.solve(p.residuals())), 1e-6);
}

TEST(Ridge, ScalesOffDiagonals) {
  Threads threads(2);
  const Problem p = whole_numbers(30, 40, 5);
  std::vector<double> more(static_cast<size_t>(p.in * p.columns));
  for (size_t i = 0; i < more.size(); ++i) more[i] = std::sin(static_cast<double>(i));
  const RidgeSystem system(p.inputs(), p.w, {.ridge = 0, .alpha = 0.9}, threads);
  EXPECT_FALSE(system.in_token_space()) << "scaled, the matrix has full rank";
  EXPECT_LT(relative_difference(system.solve(p.residuals(), more), brute_force(p, 0, 0.9, more)),
            1e-8);
}

TEST(Ridge, RaisesRhoOfSingularSystems) {
  Threads threads(2);
  Problem p = whole_numbers(60, 20, 4);
  for (int64_t t = 0; t < p.tokens; ++t) p.x[t * p.in + 7] = 0;  // a channel that is never used
  const RidgeSystem system(p.inputs(), p.w, {.ridge = 0}, threads);
  EXPECT_GT(system.raised(), 0);
  EXPECT_GT(system.rho(), 0);
  for (const double d : system.solve(p.residuals())) EXPECT_TRUE(std::isfinite(d));
}

}  // namespace
}  // namespace lewis
