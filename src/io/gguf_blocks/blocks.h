// Blocks of GGUF, a row at a time. See io/gguf_types.h, which is the door.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "io/gguf_types.h"

namespace lewis {

inline constexpr size_t kSmallBlock = 32, kLargeBlock = 256;

// What the codes of IQ4_NL and of MXFP4 stand for; of MXFP4 twice that.
inline constexpr std::array<int8_t, 16> kUnequalSteps = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                         1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr std::array<int8_t, 16> kFloat4 = {0, 1,  2,  3,  4,  6,  8,  12,
                                                   0, -1, -2, -3, -4, -6, -8, -12};
// Half of 2^(exponent - 127): what a number of kFloat4 is multiplied by.
float half_power(uint8_t exponent);

inline void put_half(float value, std::byte* out) {
  const uint16_t half = float_to_f16(value);
  out[0] = static_cast<std::byte>(half & 0xff);
  out[1] = static_cast<std::byte>(half >> 8);
}
inline float get_half(const std::byte* in) {
  return f16_to_float(static_cast<uint16_t>(std::to_integer<unsigned>(in[0]) |
                                            std::to_integer<unsigned>(in[1]) << 8));
}

// Packs codes of a block of 32: the low four bits of codes i and i + 16 share a byte. With `high`,
// bit 4 of code i is bit i of those four bytes.
void pack_small(const uint8_t* codes, std::byte* high, std::byte* low);

// The scale follows from the largest magnitude (or the range) alone: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0
// and MXFP4.
void encode_by_largest(GgufType type, std::span<const float> row, std::byte* out);
// The scale of least squares, among some that are tried: Q4_0, Q4_1, Q5_0 and Q5_1 with
// importances, IQ4_NL with or without.
void encode_small_blocks(GgufType type, std::span<const float> row,
                         std::span<const float> importances, std::byte* out);
// Q4_K and Q5_K: scales and minima of 8 groups of 32, as six bits each.
void encode_k_blocks(GgufType type, std::span<const float> row, std::span<const float> importances,
                     std::byte* out);
// Q6_K: scales of 16 groups of 16, as signed bytes.
void encode_q6_blocks(std::span<const float> row, std::span<const float> importances,
                      std::byte* out);

// Every type that has blocks.
void decode_blocks(GgufType type, const std::byte* blocks, std::span<float> out);

// Scale and minimum of group 0..7 of Q4_K and Q5_K, six bits each in twelve bytes: those of groups
// 0..3 lie in the low six bits, the others in four bits and the two that the first leave.
struct ScaleAndMinimum {
  uint8_t scale = 0, minimum = 0;
};
ScaleAndMinimum get_scale(const std::byte* packed, size_t group);
void put_scale(ScaleAndMinimum value, size_t group, std::byte* packed);

}  // namespace lewis
