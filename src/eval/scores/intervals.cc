#include "eval/scores/intervals.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/random.h"

namespace lewis {
namespace {

// The mean of items drawn with replacement. Draw k of a resample is number k of its own stream.
double resampled_mean(std::span<const ItemScore> scores, uint64_t seed, uint32_t resample) {
  const std::array key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const uint64_t n = scores.size();
  double sum = 0, weights = 0;
  for (uint64_t k = 0; k < n; k += 4) {
    const auto quad = philox4x32({static_cast<uint32_t>(k / 4), resample, 0, 0}, key);
    for (uint64_t i = k; i < std::min(k + 4, n); ++i) {
      // Multiply and shift: an index in [0, n), uniform to within n / 2^32.
      const ItemScore& item = scores[quad[i - k] * n >> 32];
      sum += item.weight * item.value;
      weights += item.weight;
    }
  }
  return weights > 0 ? sum / weights : 0;
}

// The value at `share` of the way through sorted values, between neighbours linearly.
double percentile(std::span<const double> sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
}

std::vector<ItemScore> paired_change(std::span<const ItemScore> a, std::span<const ItemScore> b) {
  if (a.size() != b.size()) {
    throw failed_error("a paired difference needs the same items: {} and {}", a.size(), b.size());
  }
  std::vector<ItemScore> change(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].weight != b[i].weight) {
      throw failed_error("a paired difference needs the same weights: item {} has {} and {}", i,
                         a[i].weight, b[i].weight);
    }
    change[i] = {b[i].value - a[i].value, a[i].weight};
  }
  return change;
}

}  // namespace

Mean mean_of(std::span<const ItemScore> scores) {
  if (scores.empty()) throw failed_error("a mean of no values was asked for");
  const auto n = static_cast<double>(scores.size());
  double sum = 0, weights = 0;
  for (const ItemScore& s : scores) {
    sum += s.weight * s.value;
    weights += s.weight;
  }
  if (!(weights > 0)) throw failed_error("a mean of values without weight was asked for");
  Mean result{sum / weights, 0, scores.size()};
  if (scores.size() < 2) return result;
  double squares = 0;
  for (const ItemScore& s : scores) {
    const double residual = s.weight * (s.value - result.mean);
    squares += residual * residual;
  }
  result.standard_error = std::sqrt(squares / (n - 1) / n) / (weights / n);
  return result;
}

Mean mean_of(std::span<const double> values) {
  std::vector<ItemScore> scores;
  for (const double v : values) scores.push_back({v});
  return mean_of(scores);
}

PairedDifference paired_difference(std::span<const ItemScore> a, std::span<const ItemScore> b,
                                   uint64_t seed, int resamples) {
  const std::vector<ItemScore> change = paired_change(a, b);
  PairedDifference result;
  const Mean mean = mean_of(change);
  result.difference = mean.mean;
  result.standard_error = mean.standard_error;
  result.items = mean.items;
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
  const auto below = std::ranges::upper_bound(means, 0.0) - means.begin();
  const auto above = means.end() - std::ranges::lower_bound(means, 0.0);
  const auto tail = static_cast<double>(std::min(below, above) + 1);
  result.p = std::min(1.0, 2 * tail / static_cast<double>(means.size() + 1));
  return result;
}

double mcnemar_p(uint64_t only_a_right, uint64_t only_b_right) {
  const uint64_t fewer = std::min(only_a_right, only_b_right);
  const auto n = static_cast<double>(only_a_right + only_b_right);
  double tail = 0;
  for (uint64_t k = 0; k <= fewer; ++k) {  // from the smallest term on
    const auto x = static_cast<double>(k);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(x + 1) - std::lgamma(n - x + 1) -
                     n * std::numbers::ln2);
  }
  return std::min(1.0, 2 * tail);
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return p[i]; });
  std::vector<double> corrected(p.size());
  double largest = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const auto still = static_cast<double>(p.size() - rank);
    largest = std::max(largest, std::min(1.0, still * p[order[rank]]));
    corrected[order[rank]] = largest;
  }
  return corrected;
}

double detectable_difference(double standard_error) {
  constexpr double kZ975 = 1.959963984540054, kZ80 = 0.8416212335729143;
  return (kZ975 + kZ80) * standard_error;
}

}  // namespace lewis
