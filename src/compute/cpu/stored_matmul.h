// Matrix multiplication by weights as they are stored: for few rows (generation), whose time is
// that of reading the weights from memory. Every weight is read once a call, whatever the rows.
#pragma once

#include <memory>
#include <span>

#include "compute/backend.h"
#include "compute/float_buffer.h"

namespace lewis {

struct StoredWeight final : PackedWeight {
  DType dtype = DType::kF32;
  std::shared_ptr<const std::byte> bytes;  // [out, in]
};

class StoredMatmul {
 public:
  // All weights are StoredWeights; x: [rows, in]. Every value of a result is one sum of `in` terms
  // in an order of its own: the same bits whatever other rows, weights and threads there are.
  void multiply(std::span<const LinearCall> calls, const float* x, int64_t rows, Threads& threads);

 private:
  FloatBuffer packed_;  // x in blocks of rows
};

}  // namespace lewis
