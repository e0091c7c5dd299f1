// Values of one kind (inputs, outputs, hidden states) in the three streams that go through a block.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "compute/dense.h"

namespace lewis {

// [rows, columns], one row a token.
struct Matrix {
  Matrix() = default;
  Matrix(int64_t row_count, int64_t column_count)
      : values(static_cast<size_t>(row_count * column_count)),
        rows(row_count),
        columns(column_count) {}
  float* row(int64_t r) { return values.data() + r * columns; }
  const float* row(int64_t r) const { return values.data() + r * columns; }
  FloatMatrix first_rows(int64_t count) const { return {values.data(), count, columns, columns}; }

  std::vector<float> values;
  int64_t rows = 0, columns = 0;
};

// The same quantity in three streams: the experts on their texts, the merged model, and the merged
// model as it would be with this block left at the prior, on what is held out.
enum StreamIndex { kExperts, kMerged, kPrior };
using Streams = std::array<Matrix, 3>;

// As many rows as x has.
inline Streams like(const Streams& x, int64_t columns) {
  return {Matrix(x[kExperts].rows, columns), Matrix(x[kMerged].rows, columns),
          Matrix(x[kPrior].rows, columns)};
}

// Copies a panel into its columns of y.
inline void put(const Matrix& panel, int64_t first, Matrix& y) {
  for (int64_t r = 0; r < panel.rows; ++r)
    std::copy_n(panel.row(r), panel.columns, y.row(r) + first);
}

}  // namespace lewis
