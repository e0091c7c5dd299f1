// Matrix multiplication by weights as they are stored, for few rows (generation). Its time is that
// of reading the weights from memory. A call reads every weight once, whatever the number of rows.
#pragma once

#include <memory>
#include <span>

#include "compute/backend.h"
#include "compute/cpu/bf16_kernels.h"
#include "compute/float_buffer.h"

namespace lewis {

struct StoredWeight final : PackedWeight {
  DType dtype = DType::kF32;
  std::shared_ptr<const std::byte> bytes;  // [out, in]
};

// Multiplies in float32. If bfloat16 is requested, the weights are bfloat16 and the processor has
// AMX, inputs are rounded instead: eight rows then take little longer than one.
class StoredMatmul {
 public:
  explicit StoredMatmul(ComputeType type);
  // All weights are StoredWeights, and x is [rows, in]. Every value of a result is one sum of `in`
  // terms in a fixed order, so its bits do not depend on other rows, weights or threads.
  void multiply(std::span<const LinearCall> calls, const float* x, int64_t rows, Threads& threads);

 private:
  bool rounds(const LinearCall& call) const;
  void multiply_exactly(std::span<const LinearCall> calls, const float* x, int64_t rows,
                        Threads& threads);
  void multiply_rounded(std::span<const LinearCall> calls, const float* x, int64_t rows,
                        Threads& threads);

  const Bf16Kernels* kernels_;  // null means float32
  FloatBuffer packed_;          // x in blocks of rows
};

}  // namespace lewis
