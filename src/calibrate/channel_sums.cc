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

// sums[j] += x[r, j]^2 for the channels [first, last), in the order of the rows.
LEWIS_VECTORIZED void add_rows(ConstMatrix x, const RowRange& rows, int64_t first, int64_t last,
                               double* sums) {
  for (int64_t begin = rows.first; begin < rows.second; begin += kRows) {
    const int64_t end = std::min(begin + kRows, rows.second);
    int64_t j = first;
    for (; j + kTile <= last; j += kTile) {
      double tile[kTile];
      std::copy_n(sums + j, kTile, tile);
      for (int64_t r = begin; r < end; ++r) {
        const float* row = x.data + r * x.columns + j;
        for (int64_t i = 0; i < kTile; ++i) {
          const double value = row[i];
          tile[i] += value * value;
        }
      }
      std::copy_n(tile, kTile, sums + j);
    }
    for (; j < last; ++j) {
      for (int64_t r = begin; r < end; ++r) {
        const double value = x.data[r * x.columns + j];
        sums[j] += value * value;
      }
    }
  }
}

// f(first, last) for tiles of the channels, on all threads.
template <typename F>
void for_channels(Threads& threads, int64_t columns, const F& f) {
  threads.run(static_cast<size_t>((columns + kTile - 1) / kTile), [&](size_t tile) {
    const int64_t first = static_cast<int64_t>(tile) * kTile;
    f(first, std::min(first + kTile, columns));
  });
}

}  // namespace

void add_squares(Threads& threads, ConstMatrix x, std::span<const RowsInto> ranges) {
  std::vector<RowsInto> blocks;
  for (const RowsInto& range : ranges) {
    for (int64_t r = range.rows.first; r < range.rows.second; r += kBlockRows)
      blocks.push_back({{r, std::min(r + kBlockRows, range.rows.second)}, range.sums});
  }
  const auto width = static_cast<size_t>(x.columns);
  std::vector<double> partial(blocks.size() * width);
  threads.run(blocks.size(),
              [&](size_t i) { add_rows(x, blocks[i].rows, 0, x.columns, &partial[i * width]); });
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (size_t j = 0; j < width; ++j) blocks[i].sums[j] += partial[i * width + j];
  }
}

void add_squares_in_order(Threads& threads, ConstMatrix x, std::span<const RowsInto> ranges) {
  for_channels(threads, x.columns, [&](int64_t first, int64_t last) {
    for (const RowsInto& range : ranges) add_rows(x, range.rows, first, last, range.sums.data());
  });
}

void add_magnitudes(Threads& threads, ConstMatrix x, std::span<const RowsInto> ranges) {
  for_channels(threads, x.columns, [&](int64_t first, int64_t end) {
    for (const auto& [rows, sums] : ranges) {
      for (int64_t r = rows.first; r < rows.second; ++r) {
        const float* row = x.data + r * x.columns;
        for (int64_t j = first; j < end; ++j) sums[static_cast<size_t>(j)] += std::abs(row[j]);
      }
    }
  });
}

}  // namespace lewis
