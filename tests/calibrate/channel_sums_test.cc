#include "calibrate/channel_sums.h"

#include <gtest/gtest.h>

#include <random>

namespace lewis {
namespace {

// Longer and shorter than a block of rows.
const std::vector<RowRange> kRanges = {{1, 20}, {25, 37}, {40, 400}};
constexpr int64_t kRows = 410;

std::vector<float> random_rows(int64_t columns) {
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(kRows * columns));
  for (float& v : x) v = normal(generator);
  return x;
}

std::vector<double> expected_sums(const std::vector<float>& x, int64_t columns) {
  std::vector<double> expected(static_cast<size_t>(columns), 0.5);
  for (const auto& [first, last] : kRanges) {
    for (int64_t r = first; r < last; ++r) {
      for (int64_t j = 0; j < columns; ++j) {
        expected[j] += static_cast<double>(x[r * columns + j]) * x[r * columns + j];
      }
    }
  }
  return expected;
}

// All ranges, added to the same sums.
std::vector<RowsInto> into(std::vector<double>& sums) {
  std::vector<RowsInto> all;
  for (const RowRange& range : kRanges) all.push_back({range, sums});
  return all;
}

TEST(ChannelSums, AreTheSumsOfTheRowsInRange) {
  for (const int64_t columns : {1, 63, 64, 65, 200}) {
    const auto x = random_rows(columns);
    const auto expected = expected_sums(x, columns);
    std::vector<double> first;
    for (const size_t count : {1u, 2u, 7u}) {
      Threads threads(count);
      std::vector<double> sums(columns, 0.5), cut = sums;
      add_squares(threads, {x.data(), kRows, columns}, into(sums));
      for (int64_t j = 0; j < columns; ++j) ASSERT_NEAR(sums[j], expected[j], 1e-12 * expected[j]);
      for (const RowsInto& range : into(cut))
        add_squares(threads, {x.data(), kRows, columns}, {&range, 1});
      if (first.empty()) first = sums;
      EXPECT_EQ(sums, first) << columns << " columns, " << count << " threads";
      EXPECT_EQ(cut, first) << columns << " columns, range by range";
    }
  }
}

TEST(ChannelSums, AreInOrderWhereTheyMustBe) {
  for (const int64_t columns : {1, 63, 64, 65, 200}) {
    const auto x = random_rows(columns);
    for (const size_t count : {1u, 2u, 7u}) {
      Threads threads(count);
      std::vector<double> sums(columns, 0.5);
      add_squares_in_order(threads, {x.data(), kRows, columns}, into(sums));
      EXPECT_EQ(sums, expected_sums(x, columns)) << columns << " columns, " << count << " threads";
    }
  }
}

}  // namespace
}  // namespace lewis
