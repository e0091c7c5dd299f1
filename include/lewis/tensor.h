// Names, types and shapes of tensors, without their values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <lewis/export.h>

namespace lewis {

// The number types of safetensors. Half precision and smaller floats are opaque bytes to C++.
enum class DType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kU16,
  kU32,
  kU64,
  kC64,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kF8E8M0,
  kF6E2M3,
  kF6E3M2,
  kF4
};

// The bits of one element.
LEWIS_API size_t dtype_bits(DType dtype);
// The bytes of one unit of storage. That is one element, except for the types whose elements are
// smaller than a byte (F4, F6_E2M3, F6_E3M2): their unit is one byte.
LEWIS_API size_t dtype_size(DType dtype);
// The name in a safetensors header: "F32", "BF16", "F8_E4M3", ...
LEWIS_API std::string_view dtype_name(DType dtype);
LEWIS_API std::optional<DType> dtype_from_name(std::string_view safetensors_name);

using Shape = std::vector<int64_t>;  // outermost first; empty for a scalar

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  bool operator==(const TensorInfo&) const = default;
};

// The product of the sizes (1 for a scalar). Readers of files prove that it fits.
inline int64_t element_count(const Shape& shape) {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}
// The number of units of storage, by which tensors are read and written: element_count, or the
// number of bytes where the elements are smaller than a byte.
inline int64_t unit_count(const TensorInfo& t) {
  const int64_t elements = element_count(t.shape);
  const auto bits = static_cast<int64_t>(dtype_bits(t.dtype));
  return bits >= 8 ? elements : elements / 8 * bits + elements % 8 * bits / 8;
}
inline size_t byte_size(const TensorInfo& t) {
  return static_cast<size_t>(unit_count(t)) * dtype_size(t.dtype);
}
// "[1024, 128]"
LEWIS_API std::string to_string(const Shape& shape);

}  // namespace lewis
