#include "calibrate/probe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace lewis {
namespace {

// The definition: a stable ascending sort of every row.
void prune_by_sorting(std::vector<float>& weight, int64_t out, int64_t in,
                      const std::vector<float>& s, double sparsity) {
  for (int64_t r = 0; r < out; ++r) {
    float* row = weight.data() + r * in;
    const std::vector<float> before(row, row + in);
    const auto score = [&](int64_t j) { return std::abs(before[j]) * std::sqrt(s[j]); };
    std::vector<int64_t> order(in);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return score(a) < score(b); });
    const auto zeros = static_cast<int64_t>(static_cast<double>(in) * sparsity);
    for (int64_t k = 0; k < zeros; ++k) row[order[k]] = 0;
  }
}

// Few different values, so that there are many ties.
TEST(Probe, ZeroesWhatAStableSortPutsFirst) {
  std::mt19937 generator(3);
  std::uniform_int_distribution<int> value(-3, 3), channel(0, 2);
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {5, 7}, {40, 33}, {17, 64}}) {
    std::vector<float> weight(out * in), s(in);
    for (float& w : weight) w = static_cast<float>(value(generator));
    for (float& v : s) v = static_cast<float>(channel(generator));
    for (double sparsity : {0.0, 0.3, 0.5, 1.0}) {
      std::vector<float> expected = weight;
      prune_by_sorting(expected, out, in, s, sparsity);
      for (size_t count : {1u, 3u}) {
        Threads threads(count);
        std::vector<float> found = weight;
        prune_rows(threads, found, out, in, s, sparsity);
        EXPECT_EQ(found, expected) << out << " x " << in << " at " << sparsity;
      }
    }
  }
}

TEST(Probe, CountsRoundedDownAndWeighsByTheChannel) {
  Threads threads(1);
  // Scores 1*2, 3*1, 2*0: int(3 * 0.5) = 1 entry, the last.
  std::vector<float> weight = {1, 3, 2};
  prune_rows(threads, weight, 1, 3, std::vector<float>{4, 1, 0}, 0.5);
  EXPECT_EQ(weight, (std::vector<float>{1, 3, 0}));
}

}  // namespace
}  // namespace lewis
