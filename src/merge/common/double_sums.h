// Weighted sums in double precision, several at once from the same inputs.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace lewis {

// A weight with the 29 highest bits of its significand. Its product with a float (24 bits) has at
// most 53 bits, so it is exact in double precision: a processor that adds products with one
// rounding and one that rounds twice have the same sums.
double exact_weight(double weight);

// As many sums as stay in registers beside each other.
constexpr size_t kSumsTogether = 4;

// The inputs of up to kSumsTogether sums, in the order in which they are added. A sum that lacks an
// input has the weight 0, which changes no bit of it: sums begin with 0, and the products are
// finite.
struct SumTerms {
  std::vector<const float*> inputs;
  std::vector<std::array<double, kSumsTogether>> weights;  // per input
  std::array<double, kSumsTogether> divisors{};
};

// out[k][i] = sum over t of weights[t][k] * inputs[t][i], divided by divisors[k], for i in [begin,
// end), k < out.size().
void add_terms(const SumTerms& terms, size_t begin, size_t end, std::span<float* const> out);

}  // namespace lewis
