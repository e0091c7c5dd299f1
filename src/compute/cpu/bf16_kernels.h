// Products of bfloat16 matrices with float sums, and the rounding of their factors, with the best
// instructions of the processor: AMX, AVX512_BF16, or plain ones. docs/performance.md says why
// oneDNN's products are not used here.
#pragma once

#include <array>
#include <cstdint>

namespace lewis {

// c[m, n] = a[m, k] * b (+ c if accumulate), on the calling thread. m and n are multiples of 16, k
// is a multiple of 32. b consists of panels of 16 columns, each [k / 2, 16] pairs (b[2 i, j], b[2 i
// + 1, j]) with the first value in the lower half. Strides count elements of their pointers.
struct PanelProduct {
  static constexpr int64_t kPanel = 16, kStep = 32;
  int64_t m = 0, n = 0, k = 0;
  const uint16_t* a = nullptr;
  int64_t row_stride = 0;
  const uint32_t* b = nullptr;
  int64_t panel_stride = 0;
  float* c = nullptr;
  int64_t c_stride = 0;
  bool accumulate = false;
};

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

struct Bf16Kernels {
  void (*multiply)(const PanelProduct& product);
  // Rounds to nearest, ties to even. NaN stays NaN; denormal numbers may become zero.
  void (*round)(const float* x, int64_t n, uint16_t* y);
};

// Makes one panel of the transpose of rows [16, width]: [width / 2, 16] pairs of neighbours of a
// row.
void pair_columns(const uint16_t* rows, int64_t width, uint32_t* panel);
// Makes the panels of rows [16, width] themselves: width / 16 panels of [8, 16] pairs of neighbours
// of a column.
void pair_rows(const uint16_t* rows, int64_t width, uint32_t* panels, int64_t panel_stride);

// Splits n floats into three bfloat16 parts each, by which a float is multiplied in bfloat16: x =
// parts[0] + parts[1] + parts[2] exactly, except for parts below 1e-38, which products take for
// zero. Infinity becomes NaN.
void split_bf16(const float* x, int64_t n, const std::array<uint16_t*, 3>& parts);

// The fastest kernels of this machine. The others are for tests and null where the machine lacks
// the instructions.
const Bf16Kernels& best_bf16_kernels();
const Bf16Kernels* amx_bf16_kernels();
const Bf16Kernels* avx512_bf16_kernels();
const Bf16Kernels* plain_bf16_kernels();

}  // namespace lewis
