#include "merge/selection/ranks.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "merge/selection/flags.h"

namespace lewis {
namespace {

// Buckets are steps of magnitude, equally many in each of the kOctaves powers of two below the
// largest; what is smaller is in the lowest. Zeros have places of their own behind the buckets.
constexpr uint32_t kOctaves = 16;
constexpr uint32_t kZeroPlaces = 16;  // several: adding to one place again and again has to wait
constexpr size_t kBlock = 256;        // entries
constexpr size_t kCrowd = 16;         // more than 1 / kCrowd of a row
constexpr size_t kShort = 16;         // rows that are sorted: there is little to count
constexpr size_t kManyLooks = 512;    // at a row, from which on sorting it is faster

struct Buckets {
  uint32_t count = 0;
  int shift = 0;        // magnitude >> shift, less ...
  uint32_t offset = 0;  // ... this, at least 0
};

LEWIS_VECTORIZED uint32_t largest_of(const uint32_t* x, size_t n) {
  uint32_t largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, x[i]);
  return largest;
}

// About four entries a bucket.
Buckets choose_buckets(std::span<const uint32_t> magnitudes) {
  Buckets b;
  b.count = static_cast<uint32_t>(
      std::clamp<size_t>(std::bit_floor(magnitudes.size() / 4), 4 * kOctaves, 1 << 16));
  b.shift = 23 - std::countr_zero(b.count / kOctaves);  // a float has 23 bits below an octave
  const uint32_t top = largest_of(magnitudes.data(), magnitudes.size()) >> b.shift;
  b.offset = top < b.count ? 0 : top - (b.count - 1);
  return b;
}

LEWIS_VECTORIZED void find_buckets(const uint32_t* magnitudes, size_t n, Buckets b,
                                   int32_t* bucket) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t step = magnitudes[i] >> b.shift;
    const uint32_t found = step > b.offset ? step - b.offset : 0;
    const uint32_t zero_place = b.count + static_cast<uint32_t>(i) % kZeroPlaces;
    bucket[i] = static_cast<int32_t>(magnitudes[i] == 0 ? zero_place : found);
  }
}

// limits[b] for a bucket whose entries have the ranks from `rank` on and below `behind`: in the
// lower half, random numbers below which its entries are kept; in the upper half, those above which
// they are not. Of the numbers only their upper halves, so that one look-up finds both.
uint32_t limits_of(std::span<const uint32_t> last, size_t rank, size_t behind) {
  return last[rank] >> 16 | (last[behind] >> 16) << 16;
}

// n: at most kBlock.
LEWIS_VECTORIZED void decide_block(const int32_t* bucket, const uint32_t* limits,
                                   const uint32_t* random, size_t n, uint8_t* keep, uint8_t* open) {
  uint32_t limit[kBlock];
  for (size_t i = 0; i < n; ++i) limit[i] = limits[bucket[i]];
  for (size_t i = 0; i < n; ++i) {
    const uint32_t half = random[i] >> 16;
    const auto kept = static_cast<uint32_t>(half < (limit[i] & 0xffff));
    keep[i] = static_cast<uint8_t>(kept);
    open[i] = static_cast<uint8_t>((kept ^ 1) & static_cast<uint32_t>(half <= limit[i] >> 16));
  }
}

LEWIS_VECTORIZED uint32_t count_less(const uint32_t* x, size_t n, uint32_t bound) {
  uint32_t count = 0;
  for (size_t i = 0; i < n; ++i) count += static_cast<uint32_t>(x[i] < bound);
  return count;
}

LEWIS_VECTORIZED uint32_t count_equal(const uint32_t* x, size_t n, uint32_t value) {
  uint32_t count = 0;
  for (size_t i = 0; i < n; ++i) count += static_cast<uint32_t>(x[i] == value);
  return count;
}

}  // namespace

std::vector<uint32_t> last_kept_by_rank(int64_t columns, double density, double epsilon) {
  std::vector<uint32_t> last;
  last.reserve(static_cast<size_t>(columns) + 1);
  for (int64_t rank = 0; rank < columns; ++rank) {
    const double place =
        columns > 1 ? static_cast<double>(rank) / static_cast<double>(columns - 1) : 0.5;
    const double p = density - epsilon + 2 * epsilon * place;
    const double below = std::ceil(p * 0x1p32) - 1;  // the last whole number below
    last.push_back(static_cast<uint32_t>(std::clamp(below, 0.0, 0x1p32 - 1)));
  }
  last.push_back(last.empty() ? 0 : last.back());
  return last;
}

size_t RowDecider::buckets() const { return counts_.size() - kZeroPlaces; }

void RowDecider::count_buckets(std::span<const uint32_t> magnitudes) {
  const size_t n = magnitudes.size();
  const Buckets b = choose_buckets(magnitudes);
  bucket_.resize(n);
  find_buckets(magnitudes.data(), n, b, bucket_.data());
  counts_.assign(b.count + kZeroPlaces, 0);
  odd_.assign(counts_.size(), 0);
  for (size_t i = 0; i + 1 < n; i += 2) {  // in two tables, as neighbours are often equal
    ++counts_[static_cast<size_t>(bucket_[i])];
    ++odd_[static_cast<size_t>(bucket_[i + 1])];
  }
  if (n % 2 != 0) ++counts_[static_cast<size_t>(bucket_[n - 1])];
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += odd_[i];
  zeros_ = 0;
  for (size_t i = buckets(); i < counts_.size(); ++i) zeros_ += counts_[i];
}

void RowDecider::find_crowds(std::span<const uint32_t> magnitudes) {
  const size_t n = magnitudes.size();
  crowds_.clear();
  if (zeros_ > 0) crowds_.push_back({0, buckets(), kZeroPlaces, 0});
  size_t rank = zeros_;
  for (size_t b = 0; b < buckets(); ++b) {
    if (counts_[b] > n / kCrowd) {
      const auto member = std::find(bucket_.begin(), bucket_.end(), static_cast<int32_t>(b));
      const uint32_t magnitude = magnitudes[static_cast<size_t>(member - bucket_.begin())];
      if (count_equal(magnitudes.data(), n, magnitude) == counts_[b])
        crowds_.push_back({magnitude, b, 1, rank});
    }
    rank += counts_[b];
  }
}

void RowDecider::decide_by_buckets(const RankedEntries& row) {
  const size_t n = row.size();
  limits_.resize(counts_.size());
  size_t rank = zeros_;
  for (size_t b = 0; b < buckets(); ++b) {
    limits_[b] = limits_of(row.last, rank, rank + counts_[b]);
    rank += counts_[b];
  }
  open_.resize(n + 7);
  for (size_t first = 0; first < n; first += kBlock) {
    const size_t size = std::min(kBlock, n - first);
    for (Crowd& c : crowds_) {
      const uint32_t here = count_equal(&row.magnitudes[first], size, c.magnitude);
      std::fill_n(&limits_[c.bucket], c.places, limits_of(row.last, c.rank, c.rank + here));
      c.rank += here;
    }
    decide_block(&bucket_[first], limits_.data(), &row.random[first], size, &row.keep[first],
                 &open_[first]);
  }
}

// rank = smaller ones of the row + equal ones before. Open entries of one magnitude share the
// counting. Rows that are too uneven for that, such as those of one number that dwarfs the others,
// are sorted.
void RowDecider::decide_open(const RankedEntries& row) {
  const uint32_t* m = row.magnitudes.data();
  seen_.assign(buckets() + 1, {});  // zeros together
  size_t looks = 0;
  for_set_flags(open_.data(), row.size(), [&](size_t i) {
    if (looks > kManyLooks) return;
    Seen& s = seen_[std::min(static_cast<size_t>(bucket_[i]), buckets())];
    if (s.magnitude != m[i]) {
      s = {m[i], count_less(m, row.size(), m[i]), 0};
      ++looks;
    }
    s.rank += count_equal(m + s.place, i - s.place, m[i]);
    s.place = static_cast<uint32_t>(i);
    row.decide(i, s.rank);
  });
  if (looks > kManyLooks) decide_sorted(row);
}

void RowDecider::decide_sorted(const RankedEntries& row) {
  keys_.clear();
  for (size_t i = 0; i < row.size(); ++i) keys_.push_back(uint64_t{row.magnitudes[i]} << 32 | i);
  std::sort(keys_.begin(), keys_.end());
  for (size_t rank = 0; rank < row.size(); ++rank) {
    row.decide(static_cast<uint32_t>(keys_[rank]), rank);
  }
}

void RowDecider::decide(const RankedEntries& row) {
  if (row.size() <= kShort) return decide_sorted(row);
  count_buckets(row.magnitudes);
  find_crowds(row.magnitudes);
  decide_by_buckets(row);
  decide_open(row);
}

}  // namespace lewis
