// Linear layers in bfloat16. Rows are rounded by the thread that multiplies them, so that they stay
// in its cache. A value of the result depends on its row and column alone.
#pragma once

#include <memory>
#include <span>

#include "compute/backend.h"
#include "compute/cpu/bf16_kernels.h"
#include "compute/float_buffer.h"

namespace lewis {

class Bf16Matmul {
 public:
  Bf16Matmul();
  std::unique_ptr<PackedWeight> pack(DType dtype, const std::byte* weight, int64_t out, int64_t in,
                                     Threads& threads) const;
  // x: [rows, in]. Called by one thread at a time.
  void multiply(std::span<const LinearCall> calls, const float* x, int64_t rows, Threads& threads);

 private:
  class Pool;
  struct Weight;
  struct Rows;
  struct Piece;
  void round(const float* x, Rows& rows) const;
  void run_product(const PackedWeight& weight, std::span<const float> bias, const Piece& piece,
                   const Rows& rows, float* y, int64_t y_stride) const;
  void run_piece(const Piece& piece, const Rows& rows) const;

  const Bf16Kernels& kernels_ = best_bf16_kernels();
  std::shared_ptr<Pool> pool_;
  FloatBuffer rounded_;  // of few rows, which threads share
};

}  // namespace lewis
