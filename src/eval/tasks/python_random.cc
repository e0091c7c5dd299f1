#include "eval/tasks/python_random.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <unordered_set>

#include "base/error.h"

namespace lewis {

// init_by_array of the authors' mt19937ar.c with the one word `seed` as key.
PythonRandom::PythonRandom(uint32_t seed) {
  state_[0] = 19650218;
  for (uint32_t i = 1; i < kWords; ++i) {
    state_[i] = 1812433253 * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  }
  uint32_t i = 1;
  const auto advance = [&] {
    if (++i >= kWords) {
      state_[0] = state_[kWords - 1];
      i = 1;
    }
  };
  for (size_t k = 0; k < kWords; ++k, advance()) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1664525)) + seed;
  }
  for (size_t k = 0; k + 1 < kWords; ++k, advance()) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1566083941)) - i;
  }
  state_[0] = 0x80000000;
}

void PythonRandom::twist() {
  for (size_t i = 0; i < kWords; ++i) {
    const uint32_t joined = (state_[i] & 0x80000000) | (state_[(i + 1) % kWords] & 0x7fffffff);
    state_[i] = state_[(i + 397) % kWords] ^ (joined >> 1) ^ (joined & 1 ? 0x9908b0df : 0);
  }
  used_ = 0;
}

uint32_t PythonRandom::next() {
  if (used_ == kWords) twist();
  uint32_t y = state_[used_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680;
  y ^= (y << 15) & 0xefc60000;
  return y ^ (y >> 18);
}

uint32_t PythonRandom::below(uint32_t n) {
  const int bits = std::bit_width(n);
  uint32_t value = 0;
  do {
    value = next() >> (32 - bits);
  } while (value >= n);
  return value;
}

std::vector<uint32_t> PythonRandom::sample(uint32_t n, uint32_t k) {
  if (k > n) throw failed_error("cannot sample {} of {}", k, n);
  std::vector<uint32_t> result(k);
  // CPython keeps the smaller of a pool of all numbers and a set of those chosen; the two draw
  // differently. Size of the set: 21, for k > 5 plus the power of 4 that is at least 3k.
  uint64_t set_size = 21;
  if (k > 5) {
    uint64_t power = 1;
    while (power < uint64_t{3} * k) power *= 4;
    set_size += power;
  }
  if (n <= set_size) {
    std::vector<uint32_t> pool(n);
    std::iota(pool.begin(), pool.end(), 0);
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t j = below(n - i);
      result[i] = pool[j];
      pool[j] = pool[n - i - 1];
    }
    return result;
  }
  std::unordered_set<uint32_t> chosen;
  for (uint32_t& r : result) {
    do {
      r = below(n);
    } while (!chosen.insert(r).second);
  }
  return result;
}

}  // namespace lewis
