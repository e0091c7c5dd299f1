// The statistic of LEWIS: sums of squares per input channel.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/threads.h"
#include "model/transformer.h"

namespace lewis {

using RowRange = std::pair<int64_t, int64_t>;  // [first, last)

// Rows, and the sums that they are added to, one per column.
struct RowsInto {
  RowRange rows;
  std::span<double> sums;
};

// sums[j] += x[r, j]^2 over the rows of each range, in double (the square of a float is exact).
// Each range is summed in blocks of rows from its first one, so the bits depend neither on the
// number of threads nor on how the ranges were cut into calls.
void add_squares(Threads& threads, ConstMatrix x, std::span<const RowsInto> ranges);

// Adds the squares in the order of the rows: here the bits do not depend on how the ranges were
// cut.
void add_squares_in_order(Threads& threads, ConstMatrix x, std::span<const RowsInto> ranges);

// sums[j] += |x[r, j]|, in the order of the rows.
void add_magnitudes(Threads& threads, ConstMatrix x, std::span<const RowsInto> ranges);

}  // namespace lewis
