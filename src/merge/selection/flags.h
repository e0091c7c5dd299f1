// Flags of entries, one byte each, as loops write them. Few that are set are found quickly, and
// many are kept as bits.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace lewis {

// Eight flags from `at` on: flag i in bits 8 i to 8 i + 7 (of a little-endian machine).
inline uint64_t eight_flags(const uint8_t* at) {
  uint64_t flags = 0;
  std::memcpy(&flags, at, 8);
  return flags;
}

// Calls f(i) for each flag that is set, in order. There must be 7 readable bytes behind the flags.
template <typename F>
void for_set_flags(const uint8_t* flags, size_t n, const F& f) {
  for (size_t first = 0; first < n; first += 8) {
    for (uint64_t any = eight_flags(flags + first); any != 0; any &= any - 1) {
      const size_t i = first + static_cast<size_t>(std::countr_zero(any)) / 8;
      if (i < n) f(i);
    }
  }
}

// Eight flags, 0 or 1, as bits: flag i in bit i. Each product of the multiplication that reaches
// the upper byte is the only one of its place.
inline uint8_t pack_flags(const uint8_t* flags) {
  return static_cast<uint8_t>(eight_flags(flags) * 0x0102040810204080u >> 56);
}

}  // namespace lewis
