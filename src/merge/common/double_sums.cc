// Compiled on its own, with -ffp-contract=fast: see exact_weight().
#include "merge/common/double_sums.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lewis {

double exact_weight(double weight) {
  constexpr int kBits = 29;
  int exponent = 0;
  const double fraction = std::frexp(weight, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, kBits)), exponent - kBits);
}

namespace {

// Four doubles are what AVX2 has in a register; wider vectors would be taken apart on the stack.
constexpr size_t kLanes = 4, kStep = 2 * kLanes;
typedef double Doubles __attribute__((vector_size(8 * kLanes)));
typedef float Floats __attribute__((vector_size(4 * kLanes)));
using Weights = std::array<double, kSumsTogether>;

// kStep elements of each sum.
LEWIS_VECTORIZED void add_step(const float* const* inputs, const Weights* weights, size_t count,
                               size_t at, double* sums) {
  Doubles a0{}, a1{}, b0{}, b1{}, c0{}, c1{}, d0{}, d1{};
  for (size_t t = 0; t < count; ++t) {
    Floats low, high;
    std::memcpy(&low, inputs[t] + at, sizeof low);
    std::memcpy(&high, inputs[t] + at + kLanes, sizeof high);
    const Doubles x = __builtin_convertvector(low, Doubles);
    const Doubles y = __builtin_convertvector(high, Doubles);
    const double* w = weights[t].data();
    a0 += w[0] * x;
    a1 += w[0] * y;
    b0 += w[1] * x;
    b1 += w[1] * y;
    c0 += w[2] * x;
    c1 += w[2] * y;
    d0 += w[3] * x;
    d1 += w[3] * y;
  }
  const Doubles all[] = {a0, a1, b0, b1, c0, c1, d0, d1};
  std::memcpy(sums, all, sizeof all);
}

}  // namespace

void add_terms(const SumTerms& terms, size_t begin, size_t end, std::span<float* const> out) {
  const size_t count = terms.inputs.size();
  size_t at = begin;
  for (; at + kStep <= end; at += kStep) {
    double sums[kSumsTogether][kStep];
    add_step(terms.inputs.data(), terms.weights.data(), count, at, sums[0]);
    for (size_t k = 0; k < out.size(); ++k) {
      for (size_t i = 0; i < kStep; ++i)
        out[k][at + i] = static_cast<float>(sums[k][i] / terms.divisors[k]);
    }
  }
  for (; at < end; ++at) {
    for (size_t k = 0; k < out.size(); ++k) {
      double sum = 0;
      for (size_t t = 0; t < count; ++t)
        sum += terms.weights[t][k] * static_cast<double>(terms.inputs[t][at]);
      out[k][at] = static_cast<float>(sum / terms.divisors[k]);
    }
  }
}

}  // namespace lewis
