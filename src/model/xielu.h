// xIELU (Huang and Schlag, arXiv 2411.13010), the activation of Apertus: its parameters are
// learned, layer by layer.
#pragma once

#include <cstdint>

#include "base/threads.h"

namespace lewis {

// As stored: the first two before the softplus that makes them positive.
struct Xielu {
  float alpha_p = 0, alpha_n = 0, beta = 0, eps = 0;
};

// x = a_p x^2 + beta x where x > 0, else a_n (expm1(min(x, eps)) - x) + beta x, n values, with
// a_p = softplus(alpha_p) and a_n = beta + softplus(alpha_n).
void apply_xielu(const Xielu& parameters, float* x, int64_t n, Threads& threads);

}  // namespace lewis
