// Names, types and shapes of tensors, without their values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace lewis {

using Shape = std::vector<int64_t>;  // outermost first; empty for a scalar

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  bool operator==(const TensorInfo&) const = default;
};

// Product of the sizes (1 for a scalar). The reader has proven that it fits.
inline int64_t element_count(const Shape& shape) {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}
inline size_t byte_size(const TensorInfo& t) {
  return static_cast<size_t>(element_count(t.shape)) * dtype_size(t.dtype);
}
// "[1024, 128]"
std::string to_string(const Shape& shape);

}  // namespace lewis
