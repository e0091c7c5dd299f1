// exp and log against those of the C library in long double.
#include "merge/common/elementary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace lewis {
namespace {

TEST(Elementary, ExpIsWithinItsError) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> wide(-700, 700), near(-2, 2);
  for (int i = 0; i < 200000; ++i) {
    const double x = i % 2 == 0 ? wide(random) : near(random);
    const long double expected = std::exp(static_cast<long double>(x));
    ASSERT_LE(std::abs(plain_exp(x) - expected), 2e-16L * expected) << x;
  }
  EXPECT_EQ(plain_exp(0), 1);
}

TEST(Elementary, LogOfRatiosIsWithinItsError) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> exponent(-230, 230), unit(-1, 1);
  for (int i = 0; i < 200000; ++i) {
    const double p = std::exp(exponent(random));
    // Far away, and so near that log(p) - log(q) would lose all digits.
    const double q =
        i % 2 == 0 ? std::exp(exponent(random)) : p * (1 + std::ldexp(unit(random), -i % 50));
    if (q <= 0) continue;
    const long double step = (static_cast<long double>(p) - q) / q;
    const long double expected =
        std::abs(step) < 0.5L ? std::log1p(step) : std::log(static_cast<long double>(p) / q);
    ASSERT_LE(std::abs(plain_log_ratio(p, q) - expected), 5e-16L * std::abs(expected))
        << p << ' ' << q;
  }
  EXPECT_EQ(plain_log_ratio(0.3, 0.3), 0);
}

}  // namespace
}  // namespace lewis
