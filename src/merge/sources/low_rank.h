// A matrix plus scale times the product of two thin ones.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lewis {

struct LowRank {
  int64_t rows = 0, columns = 0;
  int64_t rank = 0;  // a multiple of 8: filled up with zeros
  float scale = 1;
  std::vector<float> left;   // [rows, rank]
  std::vector<float> right;  // [rank, columns]
};

// left: [rows, rank], right: [rank, columns].
LowRank make_low_rank(std::span<const float> left, std::span<const float> right, int64_t rank,
                      float scale);

// [rows, columns] -> [columns, rows]
std::vector<float> transposed(std::span<const float> matrix, int64_t rows, int64_t columns);

// values: elements [column, column + n) of a row; adds scale * (left right) to them. The sum over
// the rank is taken first, in float and in order. n is at most kLowRankColumns.
constexpr size_t kLowRankColumns = 512;
void add_low_rank(const LowRank& low_rank, int64_t row, int64_t column, std::span<float> values);

}  // namespace lewis
