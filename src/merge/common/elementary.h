// exp and log as plain arithmetic in double, for loops that the compiler vectorises.
#pragma once

#include <bit>
#include <cstdint>

namespace lewis {

// Adding it leaves a number rounded to a whole one, in the lower bits of the sum.
constexpr double kRounder = 0x1.8p52;

// e^x within 2e-16 relative, for -700 <= x <= 700: x = k ln 2 + r, e^r by its Taylor series, of
// which what is left out (r^14 / 14!, |r| <= 0.35) is below 5e-18.
[[gnu::always_inline]] inline double plain_exp(double x) {
  constexpr double kLn2High = 0x1.62e42fefap-1, kLn2Low = 0x1.cf79abc9e3b3ap-40;
  const double shifted = x * 0x1.71547652b82fep0 + kRounder;  // 1 / ln 2
  const double k = shifted - kRounder;
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double sum = 1.0 / 6227020800;
  sum = sum * r + 1.0 / 479001600;
  sum = sum * r + 1.0 / 39916800;
  sum = sum * r + 1.0 / 3628800;
  sum = sum * r + 1.0 / 362880;
  sum = sum * r + 1.0 / 40320;
  sum = sum * r + 1.0 / 5040;
  sum = sum * r + 1.0 / 720;
  sum = sum * r + 1.0 / 120;
  sum = sum * r + 1.0 / 24;
  sum = sum * r + 1.0 / 6;
  sum = sum * r + 0.5;
  sum = sum * r + 1;
  sum = sum * r + 1;
  const uint64_t power = std::bit_cast<uint64_t>(shifted) << 52;
  return std::bit_cast<double>(std::bit_cast<uint64_t>(sum) + power);
}

// log(p / q) within 5e-16 relative, for positive normal p and q whose ratio is
// between 2^-1000 and 2^1000: with q' = 2^k q near to p, k ln 2 + 2 atanh((p - q') / (p + q')), of
// whose series what is left out is below 1e-18. Exact in first order where p is near to q.
[[gnu::always_inline]] inline double plain_log_ratio(double p, double q) {
  // The bits of a double are about its logarithm in base 2, times 2^52.
  const uint64_t distance = std::bit_cast<uint64_t>(p) - std::bit_cast<uint64_t>(q);
  const uint64_t k = (distance + (uint64_t{1} << 51) + (uint64_t{1} << 62)) >> 52;  // k + 1024
  const uint64_t power = (k - 1024) << 52;
  const double near = std::bit_cast<double>(std::bit_cast<uint64_t>(q) + power);
  const double s = (p - near) / (p + near), z = s * s;
  double sum = 1.0 / 23;
  sum = sum * z + 1.0 / 21;
  sum = sum * z + 1.0 / 19;
  sum = sum * z + 1.0 / 17;
  sum = sum * z + 1.0 / 15;
  sum = sum * z + 1.0 / 13;
  sum = sum * z + 1.0 / 11;
  sum = sum * z + 1.0 / 9;
  sum = sum * z + 1.0 / 7;
  sum = sum * z + 1.0 / 5;
  sum = sum * z + 1.0 / 3;
  sum = sum * z + 1;
  const double whole = std::bit_cast<double>(std::bit_cast<uint64_t>(kRounder) + (k - 1024));
  return (whole - kRounder) * 0x1.62e42fefa39efp-1 + 2 * s * sum;
}

}  // namespace lewis
