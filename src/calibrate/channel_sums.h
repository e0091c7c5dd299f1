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

// sums[j] += x[r, j]^2 over the rows of `ranges`, in double. Every channel is summed in the order
// of the rows on one thread, so the bits depend neither on the number of threads nor on how the
// rows were cut into calls. (The square of a float is exact in double.)
void add_squares(Threads& threads, ConstMatrix x, std::span<const RowRange> ranges,
                 std::span<double> sums);

// The same of |x[r, j]|.
void add_magnitudes(Threads& threads, ConstMatrix x, std::span<const RowRange> ranges,
                    std::span<double> sums);

}  // namespace lewis
