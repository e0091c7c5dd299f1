// What the ways to compute a linear layer share.
#pragma once

#include <functional>
#include <span>

#include "base/threads.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"

namespace lewis {

// Whether such calls of `rows` rows are worth waking another thread.
inline bool worth_threads(std::span<const LinearCall> calls, int64_t rows) {
  constexpr double kFlops = 6e6;
  double flops = 0;
  for (const LinearCall& call : calls) {
    flops += (call.gate ? 4.0 : 2.0) * static_cast<double>(call.weight.out * call.weight.in * rows);
  }
  return flops >= kFlops;
}

inline void for_all(size_t n, bool parallel, Threads& threads,
                    const std::function<void(size_t)>& f) {
  if (parallel) return threads.run(n, f);
  for (size_t i = 0; i < n; ++i) f(i);
}

// y[rows, count] += the outputs [first, first + count) of the bias, rows at `stride`; nothing if
// there is no bias.
inline void add_bias(std::span<const float> bias, int64_t first, int64_t count, float* y,
                     int64_t rows, int64_t stride) {
  if (bias.empty()) return;
  for (int64_t r = 0; r < rows; ++r) best_kernels().add(y + r * stride, bias.data() + first, count);
}

}  // namespace lewis
