// Water-filling: of all covered task vectors together the budget's share of entries with the
// largest score is kept, so that no entry that is dropped anywhere is worth more than one that is
// kept (docs/lewis.md). The score is what the merge trims by: |d|, or with trim:
// activation |d| sqrt(s). The importance is not looked at. Exact: the threshold is found digit by
// digit of the score's bits in two readings, a third counts each tensor's share; memory is a few
// blocks of rows.
#include <algorithm>
#include <bit>
#include <cmath>
#include <mutex>
#include <vector>

#include "plan/covered.h"
#include "plan/matrix_pairs.h"
#include "plan/tables.h"

namespace lewis {
namespace {

// Orders as the score does; below 2^31.
uint32_t score_bits(float value) { return std::bit_cast<uint32_t>(value) & 0x7fffffffu; }

constexpr int kLowBits = 15;

struct CoveredTensor {
  std::string module;
  CoveredMatrix base, expert;  // the whole tensor
  const ColumnFactors* factors = nullptr;
  int64_t columns() const { return expert.tensor->shape.back(); }
  int64_t count() const { return expert.rows * columns(); }
};

std::vector<CoveredTensor> tensors_of(const AllocationInput& in) {
  std::vector<CoveredTensor> tensors;
  for (const auto& [module, _] : in.plan.importance) {
    CoveredTensor t{module, {}, {}, nullptr};
    t.expert.tensor = &weight_of(in.models.expert, module);
    t.base.tensor = &weight_of(in.models.base, module);
    t.base.rows = t.expert.rows =
        element_count(t.expert.tensor->shape) / t.expert.tensor->shape.back();
    const auto factors = in.plan.trim_factors.find(t.expert.tensor->name);
    if (factors != in.plan.trim_factors.end()) t.factors = &factors->second;
    tensors.push_back(std::move(t));
  }
  return tensors;
}

// Calls f(scores) with pieces of a tensor, on all threads.
template <typename F>
void for_scores(const AllocationInput& in, const CoveredTensor& t, const F& f) {
  sum_over_rows(t.expert.rows, in.models.threads, [&](int64_t first, int64_t rows) {
    std::vector<float> values = read_rows(in.models.expert, t.expert, first, rows);
    const std::vector<float> base = read_rows(in.models.base, t.base, first, rows);
    for (size_t i = 0; i < values.size(); ++i) values[i] -= base[i];
    if (t.factors) {  // as the merge ranks them: products of floats
      std::vector<float> factors(values.size());
      t.factors->fill(first * t.columns(), factors);
      for (size_t i = 0; i < values.size(); ++i) values[i] *= factors[i];
    }
    std::vector<uint32_t> scores(values.size());
    std::transform(values.begin(), values.end(), scores.begin(), score_bits);
    f(scores);
    return 0.0;
  });
}

// How many scores there are of each value of some of their bits.
using Histogram = std::vector<int64_t>;

// The histogram of `digit`, a function from a score to a bucket; other numbers count nowhere.
template <typename Digit>
Histogram histogram_of(const AllocationInput& in, const std::vector<CoveredTensor>& tensors,
                       const Digit& digit) {
  Histogram all(size_t{1} << 16);
  std::mutex mutex;
  for (const CoveredTensor& t : tensors) {
    for_scores(in, t, [&](const std::vector<uint32_t>& scores) {
      Histogram own(all.size());
      for (const uint32_t s : scores) {
        const uint32_t bucket = digit(s);
        if (bucket < own.size()) ++own[bucket];
      }
      std::lock_guard lock(mutex);  // whole numbers: in any order
      for (size_t i = 0; i < all.size(); ++i) all[i] += own[i];
    });
  }
  return all;
}

// The bucket of the rank-th largest (from 1); rank becomes its rank within the bucket.
uint32_t bucket_of(const Histogram& histogram, int64_t& rank) {
  size_t at = histogram.size() - 1;
  for (; at > 0 && rank > histogram[at]; --at) rank -= histogram[at];
  return static_cast<uint32_t>(at);
}

// The smallest density with which the merge keeps n of count entries.
double density_for(int64_t n, int64_t count) {
  double density = static_cast<double>(n) / static_cast<double>(count);
  while (static_cast<int64_t>(density * static_cast<double>(count)) < n)
    density = std::nextafter(density, 2.0);
  return density;
}

}  // namespace

LayerValues allocate_threshold(const AllocationInput& in) {
  const std::vector<CoveredTensor> tensors = tensors_of(in);
  int64_t all = 0;
  for (const CoveredTensor& t : tensors) all += t.count();
  const auto kept = static_cast<int64_t>(in.lewis.budget * static_cast<double>(all));
  LayerValues density;
  if (kept == 0) {
    for (const CoveredTensor& t : tensors) density[t.module] = 0;
    return density;
  }
  int64_t rank = kept;
  const uint32_t high =
      bucket_of(histogram_of(in, tensors, [](uint32_t s) { return s >> kLowBits; }), rank);
  const uint32_t low = bucket_of(
      histogram_of(in, tensors,
                   [high](uint32_t s) {
                     return s >> kLowBits == high ? s & ((1u << kLowBits) - 1) : UINT32_MAX;
                   }),
      rank);
  const uint32_t threshold = (high << kLowBits) + low;
  for (const CoveredTensor& t : tensors) {  // of those equal to it, the first `rank`
    int64_t above = 0, equal = 0;
    std::mutex mutex;
    for_scores(in, t, [&](const std::vector<uint32_t>& scores) {
      const int64_t a = std::ranges::count_if(scores, [&](uint32_t s) { return s > threshold; });
      const int64_t e = std::ranges::count(scores, threshold);
      std::lock_guard lock(mutex);
      above += a;
      equal += e;
    });
    equal = std::min(equal, rank);
    rank -= equal;
    density[t.module] = density_for(above + equal, t.count());
  }
  return density;
}

}  // namespace lewis
