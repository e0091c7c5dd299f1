// Means with standard errors, and paired differences with intervals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lewis {

struct Mean {
  double mean = 0;
  double standard_error = 0;  // sample standard deviation / sqrt(n); 0 for one item
  size_t items = 0;
};
// Throws Error(kFailed) when there are no values.
Mean mean_of(std::span<const double> values);

// b - a over the same items.
struct PairedDifference {
  double difference = 0;
  double low = 0, high = 0;  // 95 % percentile bootstrap over items; infinite for one item
  bool shown() const { return low > 0 || high < 0; }  // the interval does not cover zero
};
// Resamples items with a counter-based generator: the same seed gives the same interval anywhere.
// Percentiles are interpolated linearly. Throws Error(kFailed) when the sizes differ or are zero.
PairedDifference paired_difference(std::span<const double> a, std::span<const double> b,
                                   uint64_t seed = 0, int resamples = 10'000);

}  // namespace lewis
