#include "eval/scores/intervals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "base/error.h"

namespace lewis {
namespace {

TEST(Intervals, MeanAndStandardErrorOfSmallNumbers) {
  // Sum of squares about 5 is 32, variance 32/7.
  const Mean m = mean_of(std::vector<double>{2, 4, 4, 4, 5, 5, 7, 9});
  EXPECT_DOUBLE_EQ(m.mean, 5);
  EXPECT_DOUBLE_EQ(m.standard_error, std::sqrt(32.0 / 7 / 8));
  EXPECT_EQ(m.items, 8u);
  const Mean one = mean_of(std::vector<double>{3});
  EXPECT_EQ(one.mean, 3);
  EXPECT_EQ(one.standard_error, 0);
  EXPECT_THROW(mean_of(std::vector<double>()), Error);
}

// For right and wrong answers the standard error is sqrt(p (1 - p) / (n - 1)).
TEST(Intervals, StandardErrorOfAnAccuracy) {
  std::vector<double> right(200, 0);
  std::fill_n(right.begin(), 130, 1);
  EXPECT_NEAR(mean_of(right).standard_error, std::sqrt(0.65 * 0.35 / 199), 1e-15);
}

std::vector<ItemScore> scores(const std::vector<double>& values) {
  std::vector<ItemScore> result;
  for (const double v : values) result.push_back({v});
  return result;
}

PairedDifference difference(const std::vector<double>& a, const std::vector<double>& b,
                            uint64_t seed = 0) {
  return paired_difference(scores(a), scores(b), seed);
}

// All n^n resamples of a few items, one by one: the bootstrap distribution without chance.
PairedDifference every_resample(const std::vector<double>& d) {
  std::vector<double> means;
  std::vector<size_t> pick(d.size(), 0);
  for (bool more = true; more;) {
    double sum = 0;
    for (size_t i : pick) sum += d[i];
    means.push_back(sum / static_cast<double>(d.size()));
    size_t digit = 0;
    while (digit < pick.size() && ++pick[digit] == d.size()) pick[digit++] = 0;
    more = digit < pick.size();
  }
  std::sort(means.begin(), means.end());
  const auto at = [&](double share) {
    return means[static_cast<size_t>(share * static_cast<double>(means.size() - 1))];
  };
  PairedDifference result;
  result.low = at(0.025);
  result.high = at(0.975);
  return result;
}

TEST(Intervals, BootstrapAgreesWithAllResamplesOfSixItems) {
  const std::vector<double> a = {1, 2, 3, 4, 5, 6}, b = {1.31, 2.97, 3.05, 5.5, 5.11, 4.83};
  std::vector<double> d(a.size());
  std::transform(b.begin(), b.end(), a.begin(), d.begin(), std::minus<>());
  const PairedDifference exact = every_resample(d);
  const PairedDifference found = difference(a, b);
  EXPECT_NEAR(found.difference, (0.31 + 0.97 + 0.05 + 1.5 + 0.11 - 1.17) / 6, 1e-12);
  // Error of a 2.5 % quantile of 10,000 draws: sqrt(p q / N) / density, about 0.02 here.
  EXPECT_NEAR(found.low, exact.low, 0.05);
  EXPECT_NEAR(found.high, exact.high, 0.05);
  EXPECT_TRUE(found.low < 0 && found.high > 0);
}

// Normal theory: for many items the interval is mean -+ 1.96 standard errors.
TEST(Intervals, BootstrapAgreesWithNormalTheoryForManyItems) {
  std::mt19937 generator(7);
  std::normal_distribution<double> common(0, 5), own(0.1, 1);
  std::vector<double> a(2000), b(2000), d(2000);
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = common(generator);
    d[i] = own(generator);
    b[i] = a[i] + d[i];
  }
  const Mean m = mean_of(d);
  const PairedDifference found = difference(a, b, 3);
  EXPECT_NEAR(found.difference, m.mean, 1e-12);
  EXPECT_NEAR(found.low, m.mean - 1.959964 * m.standard_error, 0.08 * m.standard_error);
  EXPECT_NEAR(found.high, m.mean + 1.959964 * m.standard_error, 0.08 * m.standard_error);
  EXPECT_GT(found.low, 0);
  EXPECT_LE(found.p, 0.001);
}

TEST(Intervals, TheSeedAloneDecides) {
  const std::vector<double> a = {1, 2, 3, 4, 9}, b = {2, 2, 5, 1, 4.5};
  const PairedDifference x = difference(a, b, 1), y = difference(a, b, 1);
  EXPECT_EQ(x.low, y.low);
  EXPECT_EQ(x.high, y.high);
  const PairedDifference swapped = difference(b, a, 1);
  EXPECT_DOUBLE_EQ(swapped.low, -x.high);
  EXPECT_DOUBLE_EQ(swapped.high, -x.low);
}

TEST(Intervals, NothingIsShownByOneItemOrNoChange) {
  EXPECT_EQ(difference({1}, {5}).low, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(difference({1}, {5}).p, 1);
  const std::vector<double> same = {1, 2, 3};
  const PairedDifference none = difference(same, same);
  EXPECT_EQ(none.low, 0);
  EXPECT_EQ(none.high, 0);
  EXPECT_EQ(none.p, 1);
  EXPECT_THROW(difference(same, {1, 2}), Error);
  EXPECT_THROW(difference({}, {}), Error);
}

}  // namespace
}  // namespace lewis
