// Matrix multiplication by weights as they are stored: for few rows (generation), whose time is
// that of reading the weights from memory. Every weight is read once a call, whatever the rows.
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

// In float32; where bfloat16 is asked for, the weights are bfloat16 and the processor has AMX,
// inputs are rounded: eight rows then take little longer than one.
class StoredMatmul {
 public:
  explicit StoredMatmul(ComputeType type);
  // All weights are StoredWeights; x: [rows, in]. Every value of a result is one sum of `in` terms
  // in an order of its own: the same bits whatever other rows, weights and threads there are.
  void multiply(std::span<const LinearCall> calls, const float* x, int64_t rows, Threads& threads);

 private:
  bool rounds(const LinearCall& call) const;
  void multiply_exactly(std::span<const LinearCall> calls, const float* x, int64_t rows,
                        Threads& threads);
  void multiply_rounded(std::span<const LinearCall> calls, const float* x, int64_t rows,
                        Threads& threads);

  const Bf16Kernels* kernels_;  // null: in float32
  FloatBuffer packed_;          // x in blocks of rows
};

}  // namespace lewis
