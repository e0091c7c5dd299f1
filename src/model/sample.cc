#include "model/sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/random.h"

namespace lewis {
namespace {

// The fewest ids, the most likely first, whose weights add up to `mass` or more.
std::vector<int32_t> nucleus(const std::vector<double>& weights, double mass) {
  std::vector<int32_t> ids(weights.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](int32_t a, int32_t b) {
    return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
  };
  double sum = 0;
  size_t count = 0;
  // Few tokens are enough most of the time: as many are sorted as it takes.
  for (size_t sorted = 0; sorted < ids.size() && sum < mass;) {
    const size_t end = std::min(ids.size(), std::max<size_t>(64, 4 * sorted));
    const auto at = [&](size_t i) { return ids.begin() + static_cast<std::ptrdiff_t>(i); };
    std::partial_sort(at(sorted), at(end), ids.end(), before);
    for (sorted = end; count < sorted && sum < mass; ++count) sum += weights[ids[count]];
  }
  ids.resize(count);
  return ids;
}

}  // namespace

int32_t most_likely_token(std::span<const float> logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

int32_t sample_token(std::span<const float> logits, double temperature, double top_p,
                     double uniform) {
  const auto largest = static_cast<double>(*std::ranges::max_element(logits));
  std::vector<double> weights(logits.size());
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    sum += weights[i] = std::exp((static_cast<double>(logits[i]) - largest) / temperature);
  }
  std::vector<int32_t> ids;
  if (top_p < 1) {
    ids = nucleus(weights, top_p * sum);
    sum = std::accumulate(ids.begin(), ids.end(), 0.0,
                          [&](double s, int32_t id) { return s + weights[id]; });
  } else {
    ids.resize(weights.size());
    std::iota(ids.begin(), ids.end(), 0);
  }
  const double drawn = uniform * sum;
  double passed = 0;
  int32_t last = ids[0];
  for (const int32_t id : ids) {
    if (weights[id] == 0) continue;
    last = id;  // rounding may leave `drawn` behind the end: then it is the last one
    passed += weights[id];
    if (drawn < passed) break;
  }
  return last;
}

double sampling_number(uint64_t seed, uint64_t prompt, uint64_t position) {
  const auto bits =
      philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                  static_cast<uint32_t>(prompt), static_cast<uint32_t>(prompt >> 32)},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<double>((static_cast<uint64_t>(bits[0]) << 32 | bits[1]) >> 11) * 0x1p-53;
}

}  // namespace lewis
