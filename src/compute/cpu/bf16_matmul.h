// Linear layers by products of bfloat16. They serve bfloat16, and float32 with weights that are
// stored in bfloat16; inputs are then split into three exact parts (split_bf16). The thread that
// multiplies rows also rounds or splits them, so that they stay in its cache. A value of the result
// depends on its row and column alone.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "base/page_buffer.h"
#include "compute/backend.h"
#include "compute/cpu/bf16_kernels.h"
#include "compute/float_buffer.h"

namespace lewis {

// Keeps the memory of freed weights for the next weights of the same size. A block's weights have
// the sizes of the last block's, and fresh pages cost as much as packing. The memory kept is small
// beside the budget of a large model's calibration or refinement.
class WeightPool {
 public:
  PageBuffer take(size_t bytes);
  void give(PageBuffer pages, size_t bytes);

 private:
  struct Free {
    size_t bytes;
    PageBuffer pages;
  };
  static constexpr size_t kMostKept = size_t{64} << 20;
  std::mutex mutex_;
  std::vector<Free> free_;
  size_t kept_ = 0;  // bytes
};

// Panels of 16 outputs in the layout of PanelProduct: [out / 16, in / 2, 16] pairs of inputs. Zeros
// fill out and in up to multiples of 16 and 32.
struct Bf16Weight final : PackedWeight {
  Bf16Weight(std::shared_ptr<WeightPool> from, int64_t outputs, int64_t inputs);
  ~Bf16Weight() override { pool->give(std::move(pages), bytes()); }
  Bf16Weight(const Bf16Weight&) = delete;
  Bf16Weight& operator=(const Bf16Weight&) = delete;
  size_t bytes() const;

  std::shared_ptr<WeightPool> pool;
  PageBuffer pages;
  uint32_t* panels = nullptr;
};

class Bf16Matmul {
 public:
  explicit Bf16Matmul(ComputeType type);
  // Whether this class is the fastest for weights of this type.
  bool takes(DType dtype) const;
  std::unique_ptr<PackedWeight> pack(DType dtype, const std::byte* weight, int64_t out, int64_t in,
                                     Threads& threads) const;
  // x is [rows, in]. Only one thread may call at a time.
  void multiply(std::span<const LinearCall> calls, const float* x, int64_t rows, Threads& threads);

 private:
  struct Rows;
  struct Piece;
  void round(const float* x, Rows& rows) const;
  void run_product(const PackedWeight& weight, std::span<const float> bias, const Piece& piece,
                   const Rows& rows, float* y, int64_t y_stride) const;
  void run_piece(const Piece& piece, const Rows& rows) const;

  const Bf16Kernels& kernels_ = best_bf16_kernels();
  std::shared_ptr<WeightPool> pool_;
  int64_t parts_;        // per input: 1 or 3
  FloatBuffer rounded_;  // few rows that threads share
};

}  // namespace lewis
