#include "merge/sources/low_rank.h"

#include <algorithm>

namespace lewis {
namespace {

// sum[j] += left[0] * right[j] + ... + left[7] * right[7 * stride + j], from left to right.
LEWIS_VECTORIZED void add_eight(const float* left, const float* right, size_t stride, size_t n,
                                float* sum) {
  const float *r0 = right, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride,
              *r4 = r3 + stride, *r5 = r4 + stride, *r6 = r5 + stride, *r7 = r6 + stride;
  for (size_t j = 0; j < n; ++j) {
    float s = sum[j];
    s += left[0] * r0[j];
    s += left[1] * r1[j];
    s += left[2] * r2[j];
    s += left[3] * r3[j];
    s += left[4] * r4[j];
    s += left[5] * r5[j];
    s += left[6] * r6[j];
    s += left[7] * r7[j];
    sum[j] = s;
  }
}

LEWIS_VECTORIZED void add_scaled(const float* sum, float scale, size_t n, float* values) {
  for (size_t j = 0; j < n; ++j) values[j] += scale * sum[j];
}

}  // namespace

LowRank make_low_rank(std::span<const float> left, std::span<const float> right, int64_t rank,
                      float scale) {
  LowRank low_rank;
  low_rank.scale = scale;
  low_rank.rank = (rank + 7) / 8 * 8;
  low_rank.rows = static_cast<int64_t>(left.size()) / rank;
  low_rank.columns = static_cast<int64_t>(right.size()) / rank;
  low_rank.left.resize(static_cast<size_t>(low_rank.rows * low_rank.rank));
  for (int64_t row = 0; row < low_rank.rows; ++row) {
    std::copy_n(left.begin() + row * rank, rank, low_rank.left.begin() + row * low_rank.rank);
  }
  low_rank.right.assign(right.begin(), right.end());
  low_rank.right.resize(static_cast<size_t>(low_rank.rank * low_rank.columns));
  return low_rank;
}

std::vector<float> transposed(std::span<const float> matrix, int64_t rows, int64_t columns) {
  std::vector<float> out(matrix.size());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column)
      out[column * rows + row] = matrix[row * columns + column];
  }
  return out;
}

void add_low_rank(const LowRank& low_rank, int64_t row, int64_t column, std::span<float> values) {
  float sum[kLowRankColumns];
  std::fill_n(sum, values.size(), 0.0f);
  const auto stride = static_cast<size_t>(low_rank.columns);
  const float* left = &low_rank.left[row * low_rank.rank];
  const float* right = low_rank.right.data() + column;
  for (int64_t k = 0; k < low_rank.rank; k += 8) {
    add_eight(left + k, right + k * low_rank.columns, stride, values.size(), sum);
  }
  add_scaled(sum, low_rank.scale, values.size(), values.data());
}

}  // namespace lewis
