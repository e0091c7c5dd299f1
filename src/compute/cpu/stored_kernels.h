// The inner loops of StoredMatmul, compiled for several instruction sets. The program chooses the
// best one of the machine at run time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lewis {

// Inputs are packed in blocks of 1, 2, 4 or 8 rows: kPackedLanes values of each row, then the next
// kPackedLanes values of each row, and so on. Zeros fill the last ones.
constexpr int64_t kPackedLanes = 16;
constexpr int kBlockSizes = 4;
constexpr int64_t kLargestBlock = 8;

// y[r, o] = dot(x[r], weight[o]) for the rows of one block and o < count. Rows of y are `stride`
// floats apart; only the first `rows` of them are written.
using StoredDots = void (*)(const std::byte* weight, int64_t count, int64_t in, const float* x,
                            int64_t rows, float* y, int64_t stride);

struct StoredKernels {
  StoredDots f32[kBlockSizes], bf16[kBlockSizes], f16[kBlockSizes];  // blocks of 1, 2, 4, 8 rows
};

// The best kernels for this machine.
const StoredKernels& best_stored_kernels();

}  // namespace lewis
