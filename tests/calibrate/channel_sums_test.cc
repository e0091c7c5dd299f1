#include "calibrate/channel_sums.h"

#include <gtest/gtest.h>

#include <random>

namespace lewis {
namespace {

TEST(ChannelSums, AreTheSumsOfTheRowsInRange) {
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  for (int64_t columns : {1, 63, 64, 65, 200}) {
    const int64_t rows = 37;
    std::vector<float> x(rows * columns);
    for (float& v : x) v = normal(generator);
    const std::vector<RowRange> ranges = {{1, 20}, {25, 37}};
    std::vector<double> expected(columns, 0.5);
    for (const auto& [first, last] : ranges) {
      for (int64_t r = first; r < last; ++r) {
        for (int64_t j = 0; j < columns; ++j) {
          expected[j] += static_cast<double>(x[r * columns + j]) * x[r * columns + j];
        }
      }
    }
    for (size_t count : {1u, 2u, 7u}) {
      Threads threads(count);
      std::vector<double> sums(columns, 0.5);
      add_squares(threads, {x.data(), rows, columns}, ranges, sums);
      EXPECT_EQ(sums, expected) << columns << " columns, " << count << " threads";
    }
  }
}

}  // namespace
}  // namespace lewis
