// Conversion of half precision and float8 to and from float, and spellings of DType
// (include/lewis/tensor.h).
#pragma once

#include <lewis/tensor.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace lewis {

// torch's spelling, as recipes and config.json have it, with or without "torch.": "bfloat16", ...
std::optional<DType> dtype_from_torch_name(std::string_view torch_name);
std::string_view dtype_torch_name(DType dtype);
// The types that merging and running a model compute with: F32, F16, BF16.
bool is_arithmetic(DType dtype);
// The float8 types. They mean something only with the scales that stand beside them.
bool is_float8(DType dtype);

// bfloat16: the upper half of a float. Rounds to nearest, ties to even; NaN stays NaN (quiet).
inline float bf16_to_float(uint16_t h) {
  return std::bit_cast<float>(static_cast<uint32_t>(h) << 16);
}
inline uint16_t float_to_bf16(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (u >> 16) | 0x40u;
  return static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
}

// IEEE binary16, denormals included. Rounds to nearest, ties to even; too large becomes infinity.
float f16_to_float(uint16_t h);
uint16_t float_to_f16(float f);

// OCP 8-bit floats: E4M3 (no infinities, NaN = 0x7f and 0xff), E5M2 (as IEEE).
float f8e4m3_to_float(uint8_t b);
float f8e5m2_to_float(uint8_t b);

// in: n elements of an arithmetic type or float8 -> out: n floats. The address need not be aligned.
void widen(DType dtype, const std::byte* in, std::span<float> out);
// in: n floats -> out: n elements of an arithmetic type, each rounded once (nearest even).
void narrow(std::span<const float> in, DType dtype, std::byte* out);

// True when every value is finite.
bool all_finite(std::span<const float> values);

// Calls f with a value-initialised element type that stands for `dtype` (half types, smaller floats
// and C64 as unsigned integers of dtype_size): `visit_dtype(t, [&](auto zero) { using T =
// decltype(zero); })`.
template <typename F>
auto visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF64:
      return f(double{});
    case DType::kF32:
      return f(float{});
    case DType::kU64:
    case DType::kC64:
      return f(uint64_t{});
    case DType::kU32:
      return f(uint32_t{});
    case DType::kU16:
    case DType::kF16:
    case DType::kBF16:
      return f(uint16_t{});
    case DType::kI64:
      return f(int64_t{});
    case DType::kI32:
      return f(int32_t{});
    case DType::kI16:
      return f(int16_t{});
    case DType::kI8:
      return f(int8_t{});
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kF8E4M3Fnuz:
    case DType::kF8E5M2Fnuz:
    case DType::kF8E8M0:
    case DType::kF6E2M3:
    case DType::kF6E3M2:
    case DType::kF4:
    case DType::kU8:
    case DType::kBool:
      break;
  }
  return f(uint8_t{});
}

}  // namespace lewis
