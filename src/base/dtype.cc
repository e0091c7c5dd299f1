#include "base/dtype.h"

#include <array>
#include <cstring>

#include "base/tensor.h"

namespace lewis {
namespace {

struct Row {
  DType dtype;
  size_t bits;
  std::string_view name;   // in safetensors
  std::string_view torch;  // in recipes and config.json
};
constexpr std::array kRows = {
    Row{DType::kF64, 64, "F64", "float64"},
    Row{DType::kF32, 32, "F32", "float32"},
    Row{DType::kF16, 16, "F16", "float16"},
    Row{DType::kBF16, 16, "BF16", "bfloat16"},
    Row{DType::kF8E4M3, 8, "F8_E4M3", "float8_e4m3fn"},
    Row{DType::kF8E5M2, 8, "F8_E5M2", "float8_e5m2"},
    Row{DType::kI64, 64, "I64", "int64"},
    Row{DType::kI32, 32, "I32", "int32"},
    Row{DType::kI16, 16, "I16", "int16"},
    Row{DType::kI8, 8, "I8", "int8"},
    Row{DType::kU8, 8, "U8", "uint8"},
    Row{DType::kBool, 8, "BOOL", "bool"},
    Row{DType::kU16, 16, "U16", "uint16"},
    Row{DType::kU32, 32, "U32", "uint32"},
    Row{DType::kU64, 64, "U64", "uint64"},
    Row{DType::kC64, 64, "C64", "complex64"},
    Row{DType::kF8E4M3Fnuz, 8, "F8_E4M3FNUZ", "float8_e4m3fnuz"},
    Row{DType::kF8E5M2Fnuz, 8, "F8_E5M2FNUZ", "float8_e5m2fnuz"},
    Row{DType::kF8E8M0, 8, "F8_E8M0", "float8_e8m0fnu"},
    Row{DType::kF6E2M3, 6, "F6_E2M3", "float6_e2m3fn"},
    Row{DType::kF6E3M2, 6, "F6_E3M2", "float6_e3m2fn"},
    Row{DType::kF4, 4, "F4", "float4_e2m1fn"},
};
const Row& row(DType dtype) { return kRows[static_cast<size_t>(dtype)]; }

// yes ? a : b without a branch, so that loops over it vectorise.
inline uint32_t choose(bool yes, uint32_t a, uint32_t b) {
  const uint32_t mask = 0u - static_cast<uint32_t>(yes);
  return (a & mask) | (b & ~mask);
}

}  // namespace

size_t dtype_bits(DType dtype) { return row(dtype).bits; }
size_t dtype_size(DType dtype) { return row(dtype).bits < 8 ? 1 : row(dtype).bits / 8; }
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

bool is_float8(DType dtype) { return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2; }

float f16_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t rest = h & 0x7fffu;
  const float denormal = static_cast<float>(static_cast<int32_t>(rest)) * 0x1p-24f;  // exact
  const uint32_t rebias = choose(rest >= 0x7c00, (255u - 31u) << 23, (127u - 15u) << 23);
  return std::bit_cast<float>(
      sign | choose(rest < 0x400, std::bit_cast<uint32_t>(denormal), (rest << 13) + rebias));
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

float f8e4m3_to_float(uint8_t b) {
  const uint32_t sign = static_cast<uint32_t>(b & 0x80u) << 24;
  const uint32_t rest = b & 0x7fu;
  const float denormal = static_cast<float>(static_cast<int32_t>(rest)) * 0x1p-9f;  // exact
  const uint32_t normal = choose(rest == 0x7f, 0x7fc00000u, (rest << 20) + ((127u - 7u) << 23));
  return std::bit_cast<float>(sign | choose(rest < 8, std::bit_cast<uint32_t>(denormal), normal));
}
// The upper byte of a binary16.
float f8e5m2_to_float(uint8_t b) { return f16_to_float(static_cast<uint16_t>(b << 8)); }

namespace {

// A half type at any address: the copy becomes a plain load.
uint16_t half_at(const std::byte* in, size_t i) {
  uint16_t h = 0;
  std::memcpy(&h, in + 2 * i, 2);
  return h;
}

LEWIS_VECTORIZED void widen_bf16(const std::byte* in, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = bf16_to_float(half_at(in, i));
}
LEWIS_VECTORIZED void widen_f16(const std::byte* in, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = f16_to_float(half_at(in, i));
}
LEWIS_VECTORIZED void widen_f8e4m3(const std::byte* in, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = f8e4m3_to_float(static_cast<uint8_t>(in[i]));
}
LEWIS_VECTORIZED void widen_f8e5m2(const std::byte* in, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = f8e5m2_to_float(static_cast<uint8_t>(in[i]));
}

LEWIS_VECTORIZED void narrow_bf16(const float* in, size_t n, std::byte* out) {
  for (size_t i = 0; i < n; ++i) {
    const uint16_t h = float_to_bf16(in[i]);
    std::memcpy(out + 2 * i, &h, 2);
  }
}

}  // namespace

void widen(DType dtype, const std::byte* in, std::span<float> out) {
  switch (dtype) {
    case DType::kBF16:
      return widen_bf16(in, out.size(), out.data());
    case DType::kF16:
      return widen_f16(in, out.size(), out.data());
    case DType::kF8E4M3:
      return widen_f8e4m3(in, out.size(), out.data());
    case DType::kF8E5M2:
      return widen_f8e5m2(in, out.size(), out.data());
    default:
      if (!out.empty()) std::memcpy(out.data(), in, out.size_bytes());
  }
}

void narrow(std::span<const float> in, DType dtype, std::byte* out) {
  if (dtype == DType::kF32) {
    if (!in.empty()) std::memcpy(out, in.data(), in.size_bytes());
  } else if (dtype == DType::kBF16) {
    narrow_bf16(in.data(), in.size(), out);
  } else {
    for (size_t i = 0; i < in.size(); ++i) {
      const uint16_t h = float_to_f16(in[i]);
      std::memcpy(out + 2 * i, &h, 2);
    }
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
