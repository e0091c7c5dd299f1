// Factors of columns: what is ranked inside a tensor, and what the merged task vector is multiplied
// by.
#include <gtest/gtest.h>

#include "plain_methods.h"

namespace lewis {
namespace {

constexpr int64_t kColumns = 37;

ColumnFactors some_factors(int64_t rows, int64_t matrices = 1) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(0, 2);
  ColumnFactors f{.rows = rows, .columns = kColumns, .values = {}};
  for (int64_t i = 0; i < matrices * kColumns; ++i)
    f.values.push_back(i % 5 == 0 ? 0 : uniform(random));
  return f;
}

TestTensor tensor_of(int64_t rows, size_t models, Spread spread) {
  TestTensor t(static_cast<size_t>(rows * kColumns), models);
  t.task.shape = {rows, kColumns};
  fill(t, spread, 9);
  return t;
}

// base + the task vector's entries that rank highest, sorted in full.
std::vector<float> plain_trim(const TestTensor& t, const ColumnFactors& f, double density) {
  Vector ranked(t.base.size());
  for (size_t i = 0; i < ranked.size(); ++i) {
    const size_t matrix = i / static_cast<size_t>(f.rows * kColumns);
    const float d = t.models[0][i] - t.base[i];
    ranked[i] = d * f.values[matrix * kColumns + i % kColumns];
  }
  std::vector<float> result = t.base;
  const auto order = order_by_magnitude(ranked);
  const auto k = static_cast<size_t>(density * static_cast<double>(order.size()));
  for (size_t r = 0; r < k; ++r) {
    const size_t i = order[r];
    result[i] = t.base[i] + (t.models[0][i] - t.base[i]);
  }
  return result;
}

TEST(TrimFactors, BruteForce) {
  for (const int64_t rows : {1, 30, 600, 9000}) {  // the last is bracketed by a sample
    for (const Spread spread : {Spread::kNormal, Spread::kHeavyTies}) {
      for (const double density : {0.01, 0.4, 0.97}) {
        TestTensor t = tensor_of(rows, 1, spread);
        const ColumnFactors f = rows == 30 ? some_factors(15, 2) : some_factors(rows);
        ASSERT_TRUE(f.fits(t.task.count));
        t.task.models[0].trim_factors = &f;
        t.task.models[0].set("density", density);
        const auto expected = plain_trim(t, f, density);
        EXPECT_EQ(t.merge("ties"), expected) << rows;
        EXPECT_EQ(t.merge("ties", 1), expected);
        EXPECT_EQ(t.merge_in_blocks("ties", 3000), expected);
      }
    }
  }
}

TEST(TrimFactors, EqualFactorsChangeNothing) {
  for (const char* method : {"ties", "breadcrumbs", "breadcrumbs_ties"}) {
    TestTensor t = tensor_of(700, 2, Spread::kHeavyTies);
    for (auto& m : t.task.models) m.set("density", 0.3);
    const auto without = t.merge(method);
    const ColumnFactors f{
        .rows = 700, .columns = kColumns, .values = std::vector<float>(kColumns, 4.0f)};
    for (auto& m : t.task.models) m.trim_factors = &f;
    EXPECT_EQ(t.merge(method), without) << method;
  }
}

TEST(Relaxation, ClosedForm) {
  for (const char* method : {"ties", "task_arithmetic"}) {
    TestTensor t = tensor_of(400, 2, Spread::kNormal);
    for (auto& m : t.task.models) m.set("density", 0.5);
    const auto plain = t.merge(method);
    const ColumnFactors f = some_factors(400);
    t.task.relaxation = &f;
    const auto relaxed = t.merge(method);
    for (size_t i = 0; i < plain.size(); ++i) {
      const double d = static_cast<double>(plain[i]) - t.base[i];
      EXPECT_NEAR(relaxed[i], t.base[i] + d * f.values[i % kColumns], 1e-6);
    }
    EXPECT_EQ(t.merge_in_blocks(method, 2000), relaxed);
  }
}

// Of a result that is known without arithmetic too; the factor 1 keeps every bit.
TEST(Relaxation, OfAWholeModel) {
  TestTensor t = tensor_of(50, 1, Spread::kNormal);
  ColumnFactors f{.rows = 50, .columns = kColumns, .values = std::vector<float>(kColumns, 1.0f)};
  t.task.relaxation = &f;
  EXPECT_EQ(t.merge("task_arithmetic"), t.models[0]);
  f.values.assign(kColumns, 0.0f);
  EXPECT_EQ(t.merge("task_arithmetic"), t.base);
}

}  // namespace
}  // namespace lewis
