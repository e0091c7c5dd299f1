#include "base/dtype.h"

#include <array>
#include <cmath>
#include <cstring>

#include "base/tensor.h"

namespace lewis {
namespace {

struct Row {
  DType dtype;
  size_t size;
  std::string_view name;   // in safetensors
  std::string_view torch;  // in recipes and config.json
};
constexpr std::array kRows = {
    Row{DType::kF64, 8, "F64", "float64"},
    Row{DType::kF32, 4, "F32", "float32"},
    Row{DType::kF16, 2, "F16", "float16"},
    Row{DType::kBF16, 2, "BF16", "bfloat16"},
    Row{DType::kF8E4M3, 1, "F8_E4M3", "float8_e4m3fn"},
    Row{DType::kF8E5M2, 1, "F8_E5M2", "float8_e5m2"},
    Row{DType::kI64, 8, "I64", "int64"},
    Row{DType::kI32, 4, "I32", "int32"},
    Row{DType::kI16, 2, "I16", "int16"},
    Row{DType::kI8, 1, "I8", "int8"},
    Row{DType::kU8, 1, "U8", "uint8"},
    Row{DType::kBool, 1, "BOOL", "bool"},
};
const Row& row(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

// A small float with `exponent_bits` and `mantissa_bits`, finite or special, as a float (exact).
float small_float(uint32_t bits, int exponent_bits, int mantissa_bits, bool has_infinity) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const bool negative = (bits >> (exponent_bits + mantissa_bits)) & 1;
  float value = 0;
  if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits);
  } else if (exponent == (1 << exponent_bits) - 1 &&
             (has_infinity || mantissa == (1u << mantissa_bits) - 1)) {
    value = has_infinity && mantissa == 0 ? INFINITY : NAN;
  } else {
    value = std::ldexp(static_cast<float>(mantissa | 1u << mantissa_bits),
                       exponent - bias - mantissa_bits);
  }
  return negative ? -value : value;
}

}  // namespace

size_t dtype_size(DType dtype) { return row(dtype).size; }
std::string_view dtype_name(DType dtype) { return row(dtype).name; }
std::string_view dtype_torch_name(DType dtype) { return row(dtype).torch; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Row& r : kRows) {
    if (r.name == name) return r.dtype;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_torch_name(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  for (const Row& r : kRows) {
    if (r.torch == name) return r.dtype;
  }
  return std::nullopt;
}

bool is_arithmetic(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

float f16_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t rest = h & 0x7fffu;
  if (rest < 0x400) {  // zero or denormal: rest * 2^-24, exact in float
    const float magnitude = static_cast<float>(rest) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t rebias = rest >= 0x7c00 ? (255u - 31u) << 23 : (127u - 15u) << 23;
  return std::bit_cast<float>(sign | ((rest << 13) + rebias));
}

uint16_t float_to_f16(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  const auto sign = static_cast<uint16_t>(u >> 16 & 0x8000u);
  const uint32_t magnitude = u & 0x7fffffffu;
  uint32_t rest = 0;
  if (magnitude > 0x7f800000u) {
    rest = 0x7e00u | (magnitude >> 13 & 0x1ffu);  // NaN, quiet, upper payload kept
  } else if (magnitude >= 0x477ff000u) {
    rest = 0x7c00;                        // 65520 and more round to infinity
  } else if (magnitude >= 0x38800000u) {  // normal: rebias, round to nearest even
    const uint32_t rebased = magnitude - ((127u - 15u) << 23);
    rest = (rebased + 0xfffu + (rebased >> 13 & 1u)) >> 13;
  } else {  // denormal: adding 0.5 leaves rounded multiples of 2^-24 in the low bits
    rest = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) -
           std::bit_cast<uint32_t>(0.5f);
  }
  return static_cast<uint16_t>(sign | rest);
}

float f8e4m3_to_float(uint8_t b) { return small_float(b, 4, 3, false); }
float f8e5m2_to_float(uint8_t b) { return small_float(b, 5, 2, true); }

void widen(DType dtype, const std::byte* in, std::span<float> out) {
  if (dtype == DType::kF32) {
    std::memcpy(out.data(), in, out.size_bytes());
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t h = 0;
    std::memcpy(&h, in + 2 * i, 2);
    out[i] = dtype == DType::kBF16 ? bf16_to_float(h) : f16_to_float(h);
  }
}

void narrow(std::span<const float> in, DType dtype, std::byte* out) {
  if (dtype == DType::kF32) {
    std::memcpy(out, in.data(), in.size_bytes());
    return;
  }
  for (size_t i = 0; i < in.size(); ++i) {
    const uint16_t h = dtype == DType::kBF16 ? float_to_bf16(in[i]) : float_to_f16(in[i]);
    std::memcpy(out + 2 * i, &h, 2);
  }
}

bool all_finite(std::span<const float> values) {
  uint32_t bad = 0;
  for (const float v : values) {
    bad |= static_cast<uint32_t>((std::bit_cast<uint32_t>(v) & 0x7f800000u) == 0x7f800000u);
  }
  return bad == 0;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace lewis
