// Means with standard errors, and paired differences with intervals, tests and power.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lewis {

// The score of one item.
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
  double standard_error = 0;  // of the difference; 0 for one item
  double low = 0, high = 0;   // 95 % percentile bootstrap over items; infinite for one item
  // Two-sided, by inverting the percentile interval: twice the smaller share of resamples on either
  // side of zero, zero itself on both, with one added to count and number (Davison and Hinkley,
  // Bootstrap Methods, 1997, 4.2.5 and 4.4): 2 / (resamples + 1) at least, 1 at most.
  double p = 1;
  size_t items = 0;
};
// Resamples items with a counter-based generator: the same seed gives the same interval anywhere.
// Percentiles are interpolated linearly. Throws Error(kFailed) when the sizes or the weights differ
// or there are no items.
PairedDifference paired_difference(std::span<const ItemScore> a, std::span<const ItemScore> b,
                                   uint64_t seed = 0, int resamples = 10'000);

// McNemar's exact test of two shares of the same items: the two-sided binomial test, at 1/2, of how
// many of the items that only one got right each got right (McNemar, Psychometrika 12, 1947).
double mcnemar_p(uint64_t only_a_right, uint64_t only_b_right);

// p-values corrected for being several, in their order (Holm, Scand. J. Statistics 6, 1979): those
// below 0.05 have together a chance of 5 % at most to hold one that is luck.
std::vector<double> holm(std::span<const double> p);

// The smallest true difference that a two-sided test at 5 % shows in 80 % of all cases, from the
// standard error of the paired difference: (z(0.975) + z(0.8)) * standard error (Miller, "Adding
// error bars to evals", arXiv 2411.00640, section 5).
double detectable_difference(double standard_error);

}  // namespace lewis
