#include "merge/selection/bracket_count.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

namespace lewis {
namespace {

// Magnitudes of a few values, so that many lie at the ends.
std::vector<float> coarse(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(n);
  for (float& v : values) v = static_cast<float>(static_cast<int>(random() % 41) - 20) * 0.125f;
  if (n > 3) values[3] = std::numeric_limits<float>::denorm_min();
  return values;
}

struct Expected {
  uint32_t above = 0, at_high = 0, at_low = 0;
  std::vector<uint32_t> between;
};

Expected one_by_one(const Differences& values, size_t n, const Bracket& b) {
  Expected e;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t m = magnitude_bits(values.a[i] - values.b[i]);
    if (m > b.high)
      ++e.above;
    else if (m == b.high)
      ++e.at_high;
    else if (m == b.low)
      ++e.at_low;
    else if (m > b.low)
      e.between.push_back(m);
  }
  return e;
}

TEST(BracketCount, EqualsCountingOneByOne) {
  const uint32_t all = Bracket().high;
  const auto bits = [](float x) { return magnitude_bits(x); };
  const Bracket brackets[] = {{0, all},
                              {0, 0},
                              {all, all},
                              {bits(0.5f), bits(0.5f)},
                              {bits(0.5f), bits(0.5f) + 1},
                              {bits(0.5f), bits(1.25f)},
                              {bits(0.6f), bits(3.0f)},
                              {0, bits(0.25f)}};
  for (const size_t n : {0, 1, 2, 7, 15, 16, 17, 31, 33, 100, 511, 512}) {
    const std::vector<float> a = coarse(n, 1), b = coarse(n, 2);
    for (const Differences& values :
         {Differences{a.data(), b.data()}, Differences{a.data(), kZeros, Ahead(nullptr, 2)}}) {
      for (const Bracket& bracket : brackets) {
        const Expected e = one_by_one(values, n, bracket);
        for (const auto count : {count_in_bracket, count_in_bracket_plainly}) {
          std::vector<uint32_t> between(n, 7);
          const BracketCount c = count(values, n, bracket, between.data());
          between.resize(c.inside);
          EXPECT_EQ(c.above, e.above) << n;
          EXPECT_EQ(c.at_high, e.at_high) << n;
          EXPECT_EQ(c.at_low, e.at_low) << n;
          EXPECT_EQ(between, e.between) << n;
        }
      }
    }
  }
}

}  // namespace
}  // namespace lewis
