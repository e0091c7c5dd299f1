// Eight numbers at a time, for functions that are LEWIS_VECTORIZED.
#pragma once

#include <cstdint>

namespace lewis {

inline constexpr int kLanes = 8;
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

// Vectors are passed by reference: by value they need registers that not every processor has.

[[gnu::always_inline]] inline bool any(const Ints& mask) {
  int32_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) bits |= mask[lane];
  return bits != 0;
}

[[gnu::always_inline]] inline void clamp(int32_t least, int32_t most, Ints& x) {
  x = x < least ? least - Ints{} : x;
  x = x > most ? most - Ints{} : x;
}

[[gnu::always_inline]] inline void magnitude_of(const Floats& x, Floats& out) {
  out = (Floats)((Ints)x & 0x7fffffff);
}

}  // namespace lewis
