#include "calibrate/channel_sums.h"

#include <algorithm>
#include <cmath>

namespace lewis {
namespace {

// Channels whose sums stay in registers: four cache lines of a row, and a trip count that the
// compiler knows and turns into vector instructions.
constexpr int64_t kTile = 64;
// Rows that are read next to each other before their next channels are.
constexpr int64_t kRows = 16;
// Rows of one piece of work.
constexpr int64_t kBlockRows = 128;

void add_rest(ConstMatrix x, const RowRange& rows, int64_t first, double* sums) {
  for (int64_t r = rows.first; r < rows.second; ++r) {
    const float* row = x.data + r * x.columns;
    for (int64_t j = first; j < x.columns; ++j) {
      const double value = row[j];
      sums[j] += value * value;
    }
  }
}

// sums[j] += x[r, j]^2, in the order of the rows.
LEWIS_VECTORIZED void add_rows(ConstMatrix x, const RowRange& rows, double* sums) {
  for (int64_t begin = rows.first; begin < rows.second; begin += kRows) {
    const int64_t end = std::min(begin + kRows, rows.second);
    int64_t first = 0;
    for (; first + kTile <= x.columns; first += kTile) {
      double tile[kTile];
      std::copy_n(sums + first, kTile, tile);
      for (int64_t r = begin; r < end; ++r) {
        const float* row = x.data + r * x.columns + first;
        for (int64_t j = 0; j < kTile; ++j) {
          const double value = row[j];
          tile[j] += value * value;
        }
      }
      std::copy_n(tile, kTile, sums + first);
    }
    add_rest(x, {begin, end}, first, sums);
  }
}

}  // namespace

void add_squares(Threads& threads, ConstMatrix x, std::span<const RowRange> ranges,
                 std::span<double> sums) {
  std::vector<RowRange> blocks;
  for (const auto& [begin, end] : ranges) {
    for (int64_t r = begin; r < end; r += kBlockRows)
      blocks.emplace_back(r, std::min(r + kBlockRows, end));
  }
  std::vector<double> partial(blocks.size() * sums.size());
  threads.run(blocks.size(), [&](size_t i) { add_rows(x, blocks[i], &partial[i * sums.size()]); });
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (size_t j = 0; j < sums.size(); ++j) sums[j] += partial[i * sums.size() + j];
  }
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
