#include "refine/output_error.h"

namespace lewis {

void OutputError::add(const Segment& segment, int64_t first_row, int64_t columns,
                      std::span<const float> y, const float* expert) {
  Sums& sums = sums_[static_cast<size_t>(&segment - text_.segments.data())];
  const int64_t rows = static_cast<int64_t>(y.size()) / columns;
  for (int64_t r = 0; r < rows; ++r) {
    const double w = text_.weights[static_cast<size_t>(first_row + r)];
    for (int64_t c = 0; c < columns; ++c) {
      const double e = expert[r * columns + c], d = y[static_cast<size_t>(r * columns + c)] - e;
      sums.difference += w * d * d;
      sums.size += w * e * e;
    }
  }
}

double OutputError::value() const {
  double value = 0;
  int64_t segments = 0;
  for (const Sums& s : sums_) {
    if (s.size == 0) continue;
    value += s.difference / s.size;
    ++segments;
  }
  return segments ? value / static_cast<double>(segments) : 0;
}

}  // namespace lewis
