#include "calibrate/channel_sums.h"

#include <algorithm>
#include <cmath>

namespace lewis {
namespace {

// Channels of one piece of work: four cache lines of a row, and a trip count that the compiler
// knows and turns into vector instructions.
constexpr int64_t kTile = 64;
// Rows that are asked for before they are needed: the processor does not see that they follow.
constexpr int64_t kAhead = 8;

LEWIS_VECTORIZED void add_tile(ConstMatrix x, std::span<const RowRange> ranges, int64_t first,
                               double* sums) {
  for (const auto& [begin, end] : ranges) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = x.data + r * x.columns + first;
      for (int64_t j = 0; j < kTile; j += 16) __builtin_prefetch(row + kAhead * x.columns + j);
      for (int64_t j = 0; j < kTile; ++j) {
        const double value = row[j];
        sums[j] += value * value;
      }
    }
  }
}

void add_rest(ConstMatrix x, std::span<const RowRange> ranges, int64_t first, double* sums) {
  for (const auto& [begin, end] : ranges) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = x.data + r * x.columns;
      for (int64_t j = first; j < x.columns; ++j) {
        const double value = row[j];
        sums[j - first] += value * value;
      }
    }
  }
}

}  // namespace

void add_squares(Threads& threads, ConstMatrix x, std::span<const RowRange> ranges,
                 std::span<double> sums) {
  const int64_t tiles = (x.columns + kTile - 1) / kTile;
  threads.run(static_cast<size_t>(tiles), [&](size_t tile) {
    const int64_t first = static_cast<int64_t>(tile) * kTile;
    if (first + kTile <= x.columns) {
      add_tile(x, ranges, first, sums.data() + first);
    } else {
      add_rest(x, ranges, first, sums.data() + first);
    }
  });
}

void add_magnitudes(Threads& threads, ConstMatrix x, std::span<const RowRange> ranges,
                    std::span<double> sums) {
  const int64_t tiles = (x.columns + kTile - 1) / kTile;
  threads.run(static_cast<size_t>(tiles), [&](size_t tile) {
    const int64_t first = static_cast<int64_t>(tile) * kTile;
    const int64_t end = std::min(first + kTile, x.columns);
    for (const auto& [begin, last] : ranges) {
      for (int64_t r = begin; r < last; ++r) {
        const float* row = x.data + r * x.columns;
        for (int64_t j = first; j < end; ++j) sums[static_cast<size_t>(j)] += std::abs(row[j]);
      }
    }
  });
}

}  // namespace lewis
