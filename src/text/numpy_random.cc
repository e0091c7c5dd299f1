// SeedSequence, PCG64 and the shuffle of numpy.random.Generator (numpy/random, BSD-3-Clause, read
// for their definition; PCG is by M. E. O'Neill, SeedSequence after her randutils).
#include "text/numpy_random.h"

#include <array>
#include <bit>
#include <cstddef>
#include <numeric>
#include <utility>

namespace lewis {
namespace {

__extension__ typedef unsigned __int128 uint128;

constexpr uint32_t kXorShift = 16;

// The hash that SeedSequence applies to every word; its constant changes with every call.
class SeedHash {
 public:
  SeedHash(uint32_t constant, uint32_t multiplier) : constant_(constant), multiplier_(multiplier) {}
  uint32_t operator()(uint32_t value) {
    value ^= constant_;
    constant_ *= multiplier_;
    value *= constant_;
    return value ^ (value >> kXorShift);
  }

 private:
  uint32_t constant_, multiplier_;
};

uint32_t mix(uint32_t x, uint32_t y) {
  const uint32_t result = x * 0xca01f9ddu - y * 0x4973f715u;
  return result ^ (result >> kXorShift);
}

// SeedSequence(seed).generate_state(4, uint64).
std::array<uint64_t, 4> seed_state(uint64_t seed) {
  std::array<uint32_t, 4> pool{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), 0,
                               0};
  SeedHash absorb(0x43b0d7e5u, 0x931e8875u);
  for (uint32_t& word : pool) word = absorb(word);
  for (size_t from = 0; from < pool.size(); ++from) {
    for (size_t to = 0; to < pool.size(); ++to) {
      if (from != to) pool[to] = mix(pool[to], absorb(pool[from]));
    }
  }
  SeedHash emit(0x8b51f9ddu, 0x58f38dedu);
  std::array<uint64_t, 4> state{};
  for (size_t i = 0; i < 2 * state.size(); ++i) {
    state[i / 2] |= static_cast<uint64_t>(emit(pool[i % pool.size()])) << (32 * (i % 2));
  }
  return state;
}

// PCG64, XSL-RR 128/64.
class Pcg64 {
 public:
  explicit Pcg64(uint64_t seed) {
    const auto s = seed_state(seed);
    increment_ = (join(s[2], s[3]) << 1) | 1u;
    step();
    state_ += join(s[0], s[1]);
    step();
  }

  uint64_t next64() {
    step();
    const auto folded = static_cast<uint64_t>(state_ >> 64) ^ static_cast<uint64_t>(state_);
    return std::rotr(folded, static_cast<int>(state_ >> 122));
  }

  // The lower half of a 64-bit number, then its upper half.
  uint32_t next32() {
    if (has_half_) {
      has_half_ = false;
      return half_;
    }
    const uint64_t both = next64();
    has_half_ = true;
    half_ = static_cast<uint32_t>(both >> 32);
    return static_cast<uint32_t>(both);
  }

  // Uniform in [0, max], by rejection under the smallest mask that covers max.
  uint32_t interval(uint32_t max) {
    if (max == 0) return 0;
    const uint32_t mask = ~uint32_t{0} >> std::countl_zero(max);
    uint32_t value = next32() & mask;
    while (value > max) value = next32() & mask;
    return value;
  }

 private:
  static uint128 join(uint64_t high, uint64_t low) { return uint128{high} << 64 | low; }
  void step() { state_ = state_ * join(2549297995355413924u, 4865540595714422341u) + increment_; }

  uint128 state_ = 0, increment_ = 0;
  bool has_half_ = false;
  uint32_t half_ = 0;
};

}  // namespace

std::vector<uint32_t> numpy_permutation(uint64_t seed, uint32_t n) {
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  Pcg64 random(seed);
  for (uint32_t i = n; i-- > 1;) std::swap(order[i], order[random.interval(i)]);
  return order;
}

}  // namespace lewis
