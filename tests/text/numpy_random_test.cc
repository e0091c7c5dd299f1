// Values of numpy 2.4: numpy.random.default_rng(seed).permutation(n).
#include "text/numpy_random.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace lewis {
namespace {

std::vector<uint32_t> first15(uint64_t seed, uint32_t n) {
  std::vector<uint32_t> order = numpy_permutation(seed, n);
  order.resize(15);
  return order;
}

using Values = std::vector<uint32_t>;

TEST(NumpyPermutation, GivesThePapersSamples) {
  EXPECT_EQ(first15(42, 7473), (Values{3082, 2184, 5897, 2437, 6330, 819, 3812, 5878, 5302, 5876,
                                       5308, 1534, 2663, 4247, 4632}));
  EXPECT_EQ(first15(42, 374),
            (Values{143, 364, 315, 324, 119, 134, 166, 205, 165, 50, 58, 51, 282, 372, 53}));
  EXPECT_EQ(first15(42, 1000),
            (Values{978, 933, 859, 916, 127, 608, 856, 260, 147, 810, 635, 972, 593, 994, 285}));
}

TEST(NumpyPermutation, SeedsOfOneAndTwoWords) {
  EXPECT_EQ(numpy_permutation(0, 7), (Values{2, 4, 3, 6, 5, 0, 1}));
  EXPECT_EQ(numpy_permutation((uint64_t{1} << 40) + 7, 10), (Values{6, 2, 8, 7, 9, 3, 4, 1, 5, 0}));
}

TEST(NumpyPermutation, SmallestSizes) {
  EXPECT_TRUE(numpy_permutation(42, 0).empty());
  EXPECT_EQ(numpy_permutation(42, 1), Values{0});
}

TEST(NumpyPermutation, HoldsEveryNumberOnce) {
  std::vector<uint32_t> order = numpy_permutation(7, 70000);
  std::ranges::sort(order);
  for (uint32_t i = 0; i < order.size(); ++i) ASSERT_EQ(order[i], i);
}

}  // namespace
}  // namespace lewis
