// Products and equations against their definitions in double.
#include "compute/dense.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/threads.h"

namespace lewis {
namespace {

std::vector<float> random_floats(int64_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(generator);
  return values;
}

// The largest difference of c[i, j] for j < end(i) to sum over r of w a[r, i] b[r, j].
double error_of_products(const FloatMatrix& a, const FloatMatrix& b, const std::vector<float>& w,
                         const std::vector<double>& c, bool lower) {
  double worst = 0;
  for (int64_t i = 0; i < a.columns; ++i) {
    for (int64_t j = 0; j < (lower ? i + 1 : b.columns); ++j) {
      double sum = 0;
      for (int64_t r = 0; r < a.rows; ++r) {
        sum += (w.empty() ? 1.0 : w[static_cast<size_t>(r)]) *
               static_cast<double>(a.data[r * a.stride + i]) * b.data[r * b.stride + j];
      }
      worst = std::max(worst, std::abs(sum - c[static_cast<size_t>(i * b.columns + j)]));
    }
  }
  return worst;
}

class Dense : public testing::TestWithParam<size_t> {
 protected:
  Threads threads_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Threads, Dense, testing::Values(1, 2, 7));

// Sums of 700 products of normal numbers are about 26; float32 within 256 rows gives 1e-5.
TEST_P(Dense, ProductsAreSumsOverRows) {
  const int64_t rows = 700, m = 530, n = 40;
  const auto a = random_floats(rows * (m + 3), 1), b = random_floats(rows * n, 2);
  std::vector<float> w(static_cast<size_t>(rows));
  for (size_t r = 0; r < w.size(); ++r) w[r] = r % 3 == 0 ? 0.0f : 0.1f * static_cast<float>(r % 5);
  const FloatMatrix left{a.data(), rows, m, m + 3}, right{b.data(), rows, n, n};
  std::vector<double> c(static_cast<size_t>(m * n));
  add_products(left, right, w, c, threads_);
  EXPECT_LT(error_of_products(left, right, w, c, false), 4e-5);
  std::vector<double> gram(static_cast<size_t>(m * m));
  add_gram(left, w, gram, threads_);
  EXPECT_LT(error_of_products(left, left, w, gram, true), 2e-4);
  std::vector<double> twice = c;
  add_products(left, right, w, twice, threads_);
  for (size_t i = 0; i < c.size(); ++i) ASSERT_EQ(twice[i], 2 * c[i]) << "adds to what is there";
}

TEST_P(Dense, RowProductsAreSumsOverColumns) {
  const int64_t m = 530, n = 70, columns = 300;
  const auto a = random_floats(m * (columns + 2), 6), b = random_floats(n * columns, 7);
  std::vector<double> c(static_cast<size_t>(m * n), 7.0);
  row_products({a.data(), m, columns, columns + 2}, {b.data(), n, columns, columns}, c, threads_);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < columns; ++k) {
        sum += static_cast<double>(a[static_cast<size_t>(i * (columns + 2) + k)]) *
               b[static_cast<size_t>(j * columns + k)];
      }
      ASSERT_NEAR(c[static_cast<size_t>(i * n + j)], sum, 1e-6 * columns);
    }
  }
}

TEST_P(Dense, OuterProductsAreSumsOverColumns) {
  const int64_t rows = 530, columns = 300;
  const auto x = random_floats(rows * columns, 3);
  std::vector<double> outer(static_cast<size_t>(rows * rows), 7.0);
  outer_products({x.data(), rows, columns, columns}, outer, threads_);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < columns; ++k) {
        sum += static_cast<double>(x[static_cast<size_t>(i * columns + k)]) *
               x[static_cast<size_t>(j * columns + k)];
      }
      ASSERT_NEAR(outer[static_cast<size_t>(i * rows + j)], sum, 1e-6 * columns);
    }
  }
}

// a = m m^T / n + 0.1 I; a x = b is proven by multiplying.
TEST_P(Dense, SolvesPositiveDefiniteSystems) {
  for (const int64_t n : {1, 5, 191, 192, 193, 600}) {
    const auto m = random_floats(n * n, 4);
    const auto f = random_floats(n * 200, 5);
    std::vector<double> a(static_cast<size_t>(n * n)), b(f.begin(), f.end());
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = i == j ? 0.1 : 0;
        for (int64_t k = 0; k < n; ++k)
          sum += static_cast<double>(m[i * n + k]) * m[j * n + k] / static_cast<double>(n);
        a[static_cast<size_t>(i * n + j)] = sum;
      }
    }
    std::vector<double> factor = a, x = b;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i + 1; j < n; ++j) factor[static_cast<size_t>(i * n + j)] = NAN;  // unread
    }
    ASSERT_TRUE(cholesky(factor, n, threads_));
    cholesky_solve(factor, n, x, 200, threads_);
    double worst = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t c = 0; c < 200; c += 13) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k) sum += a[i * n + k] * x[k * 200 + c];
        worst = std::max(worst, std::abs(sum - b[i * 200 + c]));
      }
    }
    EXPECT_LT(worst, 1e-10) << n;
  }
}

TEST_P(Dense, SeesWhatIsNotPositive) {
  std::vector<double> a(400 * 400);
  for (size_t i = 0; i < 400; ++i) a[i * 401] = i == 300 ? -1 : 1;
  EXPECT_FALSE(cholesky(a, 400, threads_));
}

TEST(DenseThreads, GiveTheSameBits) {
  const int64_t rows = 900, n = 700;
  const auto x = random_floats(rows * n, 6);
  const auto run = [&](size_t count) {
    Threads threads(count);
    std::vector<double> gram(static_cast<size_t>(n * n)), b(static_cast<size_t>(n * n));
    add_gram({x.data(), rows, n, n}, {}, gram, threads);
    add_products({x.data(), rows, n, n}, {x.data(), rows, n, n}, {}, b, threads);
    EXPECT_TRUE(cholesky(gram, n, threads));
    cholesky_solve(gram, n, b, n, threads);
    return b;
  };
  const auto one = run(1);
  EXPECT_EQ(one, run(2));
  EXPECT_EQ(one, run(7));
}

}  // namespace
}  // namespace lewis
