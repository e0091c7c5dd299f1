// numpy's random numbers, as far as the paper's choice of samples needs them.
#pragma once

#include <cstdint>
#include <vector>

namespace lewis {

// numpy.random.default_rng(seed).permutation(n): 0 ... n - 1 in numpy's order.
// n is at most 2^31.
std::vector<uint32_t> numpy_permutation(uint64_t seed, uint32_t n);

}  // namespace lewis
