// Helpers shared by the implementations of linear layers.
#pragma once

#include <functional>
#include <span>

#include "base/threads.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"

namespace lewis {

// Whether these calls with `rows` rows are large enough to wake another thread.
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

// Adds outputs [first, first + count) of the bias to y[rows, count], whose rows are `stride` apart.
// Does nothing if the call has no bias.
inline void add_bias(std::span<const float> bias, int64_t first, int64_t count, float* y,
                     int64_t rows, int64_t stride) {
  if (bias.empty()) return;
  for (int64_t r = 0; r < rows; ++r) best_kernels().add(y + r * stride, bias.data() + first, count);
}

}  // namespace lewis
