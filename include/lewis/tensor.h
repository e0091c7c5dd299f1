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

// The number types of safetensors. Half precision and float8 are opaque bytes to C++.
enum class DType { kF64, kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI64, kI32, kI16, kI8, kU8, kBool };

// The bytes of one element.
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
inline size_t byte_size(const TensorInfo& t) {
  return static_cast<size_t>(element_count(t.shape)) * dtype_size(t.dtype);
}
// "[1024, 128]"
LEWIS_API std::string to_string(const Shape& shape);

}  // namespace lewis
