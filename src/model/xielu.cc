#include "model/xielu.h"

#include <algorithm>
#include <cmath>

namespace lewis {

void apply_xielu(const Xielu& parameters, float* x, int64_t n, Threads& threads) {
  const float positive = std::log1p(std::exp(parameters.alpha_p));
  const float negative = parameters.beta + std::log1p(std::exp(parameters.alpha_n));
  constexpr int64_t kPiece = 1 << 14;
  threads.run(static_cast<size_t>((n + kPiece - 1) / kPiece), [&](size_t piece) {
    const int64_t begin = static_cast<int64_t>(piece) * kPiece;
    for (int64_t i = begin; i < std::min(n, begin + kPiece); ++i) {
      const float v = x[i];
      x[i] = parameters.beta * v +
             (v > 0 ? positive * v * v : negative * (std::expm1(std::min(v, parameters.eps)) - v));
    }
  });
}

}  // namespace lewis
