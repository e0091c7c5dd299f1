// The differences between two tensors of the same shape, and the contents of one tensor.
#pragma once

#include "base/threads.h"
#include "io/tensor_source.h"

namespace lewis {

struct TensorDifference {
  double norm_a = 0, norm_b = 0, norm_difference = 0;  // Frobenius norms
  double dot = 0;                                      // sum of a[i] * b[i]
  int64_t equal = 0, count = 0;                        // elements of the same value; all

  double relative() const { return norm_a > 0 ? norm_difference / norm_a : norm_difference > 0; }
  double cosine() const { return norm_a > 0 && norm_b > 0 ? dot / (norm_a * norm_b) : 1; }
  double equal_share() const {
    return count ? static_cast<double>(equal) / static_cast<double>(count) : 1;
  }
  TensorDifference& operator+=(const TensorDifference& other);
};

// Compares elements [0, limit) (all, if limit is 0) of a tensor in two sources of the same shape;
// both of types for arithmetic. Sums in double, in the order of fixed pieces.
TensorDifference compare_tensors(const TensorSource& a, const TensorSource& b,
                                 std::string_view name, int64_t limit, Threads& threads);

// True if a tensor has the same bytes in both sources, which must have it in the same shape and
// type, be it one for arithmetic or not.
bool same_bytes(const TensorSource& a, const TensorSource& b, std::string_view name);

struct TensorSummary {
  double min = 0, max = 0, mean = 0, deviation = 0;
  int64_t zeros = 0, not_finite = 0, count = 0;  // mean and deviation are of the finite values
};
TensorSummary summarize(const TensorSource& source, const TensorInfo& tensor, Threads& threads);

}  // namespace lewis
