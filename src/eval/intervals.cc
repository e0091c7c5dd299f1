#include "eval/intervals.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/random.h"

namespace lewis {
namespace {

// The mean of items drawn with replacement. Draw k of a resample is number k of its own stream.
double resampled_mean(std::span<const double> values, uint64_t seed, uint32_t resample) {
  const std::array key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const uint64_t n = values.size();
  double sum = 0;
  for (uint64_t k = 0; k < n; k += 4) {
    const auto quad = philox4x32({static_cast<uint32_t>(k / 4), resample, 0, 0}, key);
    for (uint64_t i = k; i < std::min(k + 4, n); ++i) {
      // Multiply and shift: an index in [0, n), uniform to within n / 2^32.
      sum += values[quad[i - k] * n >> 32];
    }
  }
  return sum / static_cast<double>(n);
}

// The value at `share` of the way through sorted values, between neighbours linearly.
double percentile(std::span<const double> sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
}

}  // namespace

Mean mean_of(std::span<const double> values) {
  if (values.empty()) throw failed_error("a mean of no values was asked for");
  const auto n = static_cast<double>(values.size());
  Mean result{0, 0, values.size()};
  for (double v : values) result.mean += v;
  result.mean /= n;
  if (values.size() < 2) return result;
  double squares = 0;
  for (double v : values) squares += (v - result.mean) * (v - result.mean);
  result.standard_error = std::sqrt(squares / (n - 1) / n);
  return result;
}

PairedDifference paired_difference(std::span<const double> a, std::span<const double> b,
                                   uint64_t seed, int resamples) {
  if (a.size() != b.size()) {
    throw failed_error("a paired difference needs the same items: {} and {}", a.size(), b.size());
  }
  std::vector<double> change(a.size());
  for (size_t i = 0; i < a.size(); ++i) change[i] = b[i] - a[i];
  PairedDifference result;
  result.difference = mean_of(change).mean;
  if (change.size() < 2) {  // one item says nothing about the spread
    result.low = -std::numeric_limits<double>::infinity();
    result.high = std::numeric_limits<double>::infinity();
    return result;
  }
  std::vector<double> means(static_cast<size_t>(std::max(resamples, 1)));
  for (size_t r = 0; r < means.size(); ++r) {
    means[r] = resampled_mean(change, seed, static_cast<uint32_t>(r));
  }
  std::sort(means.begin(), means.end());
  result.low = percentile(means, 0.025);
  result.high = percentile(means, 0.975);
  return result;
}

}  // namespace lewis
