// Decompositions against what defines them, on matrices that are hard: equal singular values, few
// of them, very small ones.
#include "compute/decompositions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>

namespace lewis {
namespace {

DoubleMatrix random_matrix(int64_t rows, int64_t columns, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  DoubleMatrix m(rows, columns);
  for (double& x : m.values) x = normal(random);
  return m;
}

DoubleMatrix transposed(const DoubleMatrix& a) {
  DoubleMatrix t(a.columns, a.rows);
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.columns; ++c) t.at(c, r) = a.at(r, c);
  }
  return t;
}

DoubleMatrix product(const DoubleMatrix& a, const DoubleMatrix& b) {
  DoubleMatrix c(a.rows, b.columns);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < a.columns; ++k) {
      for (int64_t j = 0; j < b.columns; ++j) c.at(i, j) += a.at(i, k) * b.at(k, j);
    }
  }
  return c;
}

double largest_difference(const DoubleMatrix& a, const DoubleMatrix& b) {
  double largest = 0;
  for (size_t i = 0; i < a.values.size(); ++i)
    largest = std::max(largest, std::abs(a.values[i] - b.values[i]));
  return largest;
}

DoubleMatrix identity(int64_t n) {
  DoubleMatrix m(n, n);
  for (int64_t i = 0; i < n; ++i) m.at(i, i) = 1;
  return m;
}

// A matrix with some of its entries, rows and columns.
DoubleMatrix sparse(int64_t rows, int64_t columns, uint32_t seed) {
  std::mt19937 random(seed);
  DoubleMatrix m(rows, columns);
  for (double& x : m.values) x = random() % 50 == 0 ? static_cast<double>(random() % 3) - 1 : 0;
  return m;
}

struct Case {
  std::string name;
  DoubleMatrix matrix;
  int64_t rank = -1;  // -1: unknown
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1},   {1, 7},   {7, 1},
                                                {20, 20}, {65, 31}, {31, 130}};
  for (const auto& [rows, columns] : shapes) {
    const std::string shape = std::to_string(rows) + " x " + std::to_string(columns);
    const int64_t least = std::min(rows, columns);
    all.push_back({"random " + shape, random_matrix(rows, columns, 1), least});
    all.push_back({"zero " + shape, DoubleMatrix(rows, columns), 0});
    all.push_back(
        {"rank 1 " + shape, product(random_matrix(rows, 1, 2), random_matrix(1, columns, 3)), 1});
    all.push_back({"rank 5 " + shape,
                   product(random_matrix(rows, 5, 4), random_matrix(5, columns, 5)),
                   std::min<int64_t>(5, least)});
    for (uint32_t seed = 0; seed < 20; ++seed)
      all.push_back(
          {"sparse " + shape + " seed " + std::to_string(seed), sparse(rows, columns, seed)});
    all.push_back({"tiny " + shape, random_matrix(rows, columns, 6), least});
    for (double& x : all.back().matrix.values) x *= 1e-170;
  }
  all.push_back({"identity", identity(40), 40});
  // Singular values from 1 down to 1e-5, each twice.
  const SingularVectors left = [] {
    Threads threads(1);
    const DoubleMatrix m = random_matrix(60, 40, 7);
    return std::move(singular_vectors({&m, 1}, threads)[0]);
  }();
  DoubleMatrix scaled = left.u;
  for (int64_t r = 0; r < scaled.rows; ++r) {
    for (int64_t c = 0; c < scaled.columns; ++c)
      scaled.at(r, c) *= std::pow(10, -5.0 * static_cast<double>(c / 2) / 19);
  }
  all.push_back({"equal pairs", product(scaled, transposed(left.v)), 40});
  return all;
}

TEST(Decompositions, SingularVectorsGiveTheMatrixBack) {
  Threads threads(2);
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const SingularVectors parts = std::move(singular_vectors({&c.matrix, 1}, threads)[0]);
    const auto rank = static_cast<int64_t>(parts.values.size());
    if (c.rank >= 0) {
      EXPECT_EQ(rank, c.rank);
    }
    EXPECT_TRUE(std::ranges::is_sorted(parts.values, std::greater()));
    EXPECT_LT(largest_difference(product(transposed(parts.u), parts.u), identity(rank)), 1e-12);
    EXPECT_LT(largest_difference(product(transposed(parts.v), parts.v), identity(rank)), 1e-9);
    DoubleMatrix u = parts.u;
    for (int64_t r = 0; r < u.rows; ++r) {
      for (int64_t k = 0; k < rank; ++k) u.at(r, k) *= parts.values[static_cast<size_t>(k)];
    }
    const DoubleMatrix back = product(u, transposed(parts.v));
    EXPECT_LE(largest_difference(back, c.matrix), rank == 0 ? 0 : 1e-10 * parts.values[0]);
  }
}

TEST(Decompositions, TheLeadingVectorsAreTheFirst) {
  Threads threads(2);
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const SingularVectors parts = std::move(singular_vectors({&c.matrix, 1}, threads)[0]);
    const SingularTriple first = leading_singular_vectors(c.matrix, threads);
    if (parts.values.empty()) {
      EXPECT_EQ(first.value, 0);
      continue;
    }
    EXPECT_NEAR(first.value / parts.values[0], 1, 1e-12);
    // matrix v = value u, also where several singular values are the largest.
    for (int64_t r = 0; r < c.matrix.rows; ++r) {
      double sum = 0;
      for (int64_t k = 0; k < c.matrix.columns; ++k)
        sum += c.matrix.at(r, k) * first.v[static_cast<size_t>(k)];
      EXPECT_NEAR(sum / first.value, first.u[static_cast<size_t>(r)], 1e-9);
    }
  }
}

TEST(Decompositions, TheOrthogonalFactorIsOrthogonal) {
  Threads threads(2);
  const DoubleMatrix a = random_matrix(65, 31, 9), factor = orthogonal_factor(a, threads);
  EXPECT_LT(largest_difference(product(transposed(factor), factor), identity(31)), 1e-12);
  // factor^T a is symmetric: it is the other factor of a.
  const DoubleMatrix other = product(transposed(factor), a);
  EXPECT_LT(largest_difference(other, transposed(other)), 1e-11);
}

TEST(Decompositions, ProductsAreThoseOfPlainLoops) {
  Threads threads(2);
  const DoubleMatrix a = random_matrix(130, 37, 1), b = random_matrix(37, 70, 2);
  DoubleMatrix c(130, 70), d = c, gram(37, 37);
  add_product(a, b, c, threads);
  add_product_transposed(a, transposed(b), d, threads);
  add_scaled_gram(a, 0.5, gram, threads);
  EXPECT_LT(largest_difference(c, product(a, b)), 1e-12);
  EXPECT_LT(largest_difference(d, c), 1e-12);
  DoubleMatrix expected = product(transposed(a), a);
  for (double& x : expected.values) x *= 0.5;
  EXPECT_LT(largest_difference(gram, expected), 1e-11);
}

TEST(Decompositions, AQuotientTimesItsDivisorIsTheDividend) {
  Threads threads(2);
  const DoubleMatrix root = random_matrix(80, 50, 3), b = random_matrix(90, 50, 4);
  DoubleMatrix a(50, 50);
  add_scaled_gram(root, 1, a, threads);
  DoubleMatrix factor = a, quotient = b;
  ASSERT_TRUE(divide_by_symmetric(factor, quotient, threads));
  EXPECT_LT(largest_difference(product(quotient, a), b), 1e-10);
  DoubleMatrix singular(50, 50);
  EXPECT_FALSE(divide_by_symmetric(singular, quotient, threads));
}

TEST(Decompositions, AnyNumberOfThreadsGivesTheSameBits) {
  const std::vector<DoubleMatrix> all = {random_matrix(200, 150, 1), random_matrix(150, 200, 2)};
  Threads one(1);
  const auto expected = singular_vectors(all, one);
  const SingularTriple first = leading_singular_vectors(all[0], one);
  for (const size_t count : {2, 7}) {
    Threads threads(count);
    const auto found = singular_vectors(all, threads);
    for (size_t m = 0; m < all.size(); ++m) {
      EXPECT_EQ(found[m].u.values, expected[m].u.values);
      EXPECT_EQ(found[m].v.values, expected[m].v.values);
    }
    EXPECT_EQ(leading_singular_vectors(all[0], threads).v, first.v);
    EXPECT_EQ(orthogonal_factor(all[1], threads).values, orthogonal_factor(all[1], one).values);
  }
}

}  // namespace
}  // namespace lewis
