#include "compute/cpu/chunk_decay.h"

#include <algorithm>

#include "compute/cpu/kernels.h"

namespace lewis {
namespace {

constexpr float kNothing = -87;  // e^-87 is the least power that is a normal number
// A lower log of one row makes no difference, but infinity minus infinity would. NaN stays NaN.
constexpr float kLowest = -200;

// x = e^x, and 0 below kNothing. The vectorised exponential ends at the least normal number.
void exponentials(float* x, int64_t n) {
  std::array<bool, kChunkRows> gone;
  for (int64_t i = 0; i < n; ++i) gone[static_cast<size_t>(i)] = x[i] < kNothing;
  best_kernels().exp_sum(x, 0, n);
  for (int64_t i = 0; i < n; ++i) x[i] = gone[static_cast<size_t>(i)] ? 0 : x[i];
}

}  // namespace

ChunkDecay::ChunkDecay(const float* logs, int64_t stride, float scale, int64_t rows) : rows_(rows) {
  double sum = 0;
  for (int64_t t = 0; t < rows; ++t) {
    sum += static_cast<double>(std::max(logs[t * stride] * scale, kLowest));
    sums_[static_cast<size_t>(t)] = sum;
    state_[static_cast<size_t>(t)] = static_cast<float>(sum);
  }
  exponentials(state_.data(), rows);
}

void ChunkDecay::of_rows(int64_t t, float* factors) const {
  const double last = sums_[static_cast<size_t>(t)];
  for (int64_t s = 0; s <= t; ++s)
    factors[s] = static_cast<float>(last - sums_[static_cast<size_t>(s)]);
  exponentials(factors, t + 1);
}

}  // namespace lewis
