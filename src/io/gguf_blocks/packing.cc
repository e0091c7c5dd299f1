#include <bit>
#include <cstring>

#include "io/gguf_blocks/blocks.h"

namespace lewis {

float half_power(uint8_t exponent) {
  const uint32_t bits = exponent < 2 ? 0x00200000u << exponent : (exponent - 1u) << 23;
  return std::bit_cast<float>(bits);
}

void pack_small(const uint8_t* codes, std::byte* high, std::byte* low) {
  constexpr size_t kHalf = kSmallBlock / 2;
  for (size_t i = 0; i < kHalf; ++i)
    low[i] = static_cast<std::byte>((codes[i] & 15) | (codes[i + kHalf] & 15) << 4);
  if (!high) return;
  uint32_t bits = 0;
  for (size_t i = 0; i < kSmallBlock; ++i) bits |= (codes[i] >> 4 & 1u) << i;
  std::memcpy(high, &bits, sizeof bits);
}

ScaleAndMinimum get_scale(const std::byte* packed, size_t group) {
  const auto at = [&](size_t i) { return std::to_integer<unsigned>(packed[i]); };
  if (group < 4)
    return {static_cast<uint8_t>(at(group) & 63), static_cast<uint8_t>(at(group + 4) & 63)};
  return {static_cast<uint8_t>((at(group + 4) & 15) | at(group - 4) >> 6 << 4),
          static_cast<uint8_t>(at(group + 4) >> 4 | at(group) >> 6 << 4)};
}

void put_scale(ScaleAndMinimum value, size_t group, std::byte* packed) {
  const unsigned scale = value.scale, minimum = value.minimum;
  if (group < 4) {
    packed[group] |= static_cast<std::byte>(scale);
    packed[group + 4] |= static_cast<std::byte>(minimum);
    return;
  }
  packed[group + 4] |= static_cast<std::byte>((scale & 15) | (minimum & 15) << 4);
  packed[group - 4] |= static_cast<std::byte>(scale >> 4 << 6);
  packed[group] |= static_cast<std::byte>(minimum >> 4 << 6);
}

}  // namespace lewis
