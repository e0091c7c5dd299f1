#include "eval/scores/comparison.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace lewis {
namespace {

bool is_right_or_wrong(std::span<const ItemScore> scores) {
  return std::ranges::all_of(
      scores, [](const ItemScore& s) { return (s.value == 0 || s.value == 1) && s.weight == 1; });
}

}  // namespace

bool Comparison::shown() const {
  return (difference.low > 0 || difference.high < 0) &&
         std::abs(difference.difference) >= 2 * difference.standard_error && p_corrected < 0.05;
}

Comparison compare(const MetricInfo& metric, std::span<const ItemScore> a,
                   std::span<const ItemScore> b) {
  Comparison result;
  result.difference = paired_difference(a, b);
  result.p = result.difference.p;
  result.detectable = detectable_difference(result.difference.standard_error);
  if (metric.kind == MetricInfo::Kind::kShare && is_right_or_wrong(a) && is_right_or_wrong(b)) {
    uint64_t only_a = 0, only_b = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      only_a += a[i].value > b[i].value;
      only_b += b[i].value > a[i].value;
    }
    result.mcnemar = true;
    result.p = mcnemar_p(only_a, only_b);
  }
  result.p_corrected = result.p;
  return result;
}

void correct(std::span<Comparison* const> together) {
  std::vector<double> p;
  for (const Comparison* c : together) p.push_back(c->p);
  const std::vector<double> corrected = holm(p);
  for (size_t i = 0; i < together.size(); ++i) together[i]->p_corrected = corrected[i];
}

}  // namespace lewis
