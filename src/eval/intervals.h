// Means with standard errors, and paired differences with intervals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lewis {

// What one item scored.
struct ItemScore {
  double value = 0;
  double weight = 1;  // in the mean over items: tokens of a window, instructions of a prompt
  bool operator==(const ItemScore&) const = default;
};

struct Mean {
  double mean = 0;
  double standard_error = 0;  // 0 for one item
  size_t items = 0;
};
// Sum of weight * value over sum of weights. The standard error is that of a ratio of two means
// (Cochran, Sampling Techniques, 1977, 2.32), sqrt(sum (w (v - mean))^2 / (n - 1) / n) / mean
// weight; with equal weights it is the sample standard deviation / sqrt(n).
// Throws Error(kFailed) when there are no values or no weight.
Mean mean_of(std::span<const ItemScore> scores);
Mean mean_of(std::span<const double> values);

// b - a over the same items.
struct PairedDifference {
  double difference = 0;
  double low = 0, high = 0;  // 95 % percentile bootstrap over items; infinite for one item
  bool shown() const { return low > 0 || high < 0; }  // the interval does not cover zero
};
// Resamples items with a counter-based generator: the same seed gives the same interval anywhere.
// Percentiles are interpolated linearly. Throws Error(kFailed) when the sizes or the weights differ
// or there are no items.
PairedDifference paired_difference(std::span<const ItemScore> a, std::span<const ItemScore> b,
                                   uint64_t seed = 0, int resamples = 10'000);

}  // namespace lewis
