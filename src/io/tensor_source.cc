#include "io/tensor_source.h"

#include <algorithm>

#include "base/error.h"

namespace lewis {

const TensorInfo* TensorSource::find(std::string_view name) const {
  const auto& all = tensors();
  const auto it =
      std::lower_bound(all.begin(), all.end(), name,
                       [](const TensorInfo& t, std::string_view n) { return t.name < n; });
  return it != all.end() && it->name == name ? &*it : nullptr;
}

const TensorInfo& TensorSource::get(std::string_view name) const {
  if (const TensorInfo* tensor = find(name)) return *tensor;
  throw input_error("{}: tensor {} is missing", label(), name);
}

std::vector<float> TensorSource::read_floats(const TensorInfo& tensor) const {
  if (!is_arithmetic(tensor.dtype)) {
    throw input_error("{}: tensor {} is {}, expected F32, F16 or BF16", label(), tensor.name,
                      dtype_name(tensor.dtype));
  }
  std::vector<std::byte> bytes(byte_size(tensor));
  read(tensor, 0, bytes);
  std::vector<float> values(static_cast<size_t>(element_count(tensor.shape)));
  widen(tensor.dtype, bytes.data(), values);
  if (!all_finite(values)) {
    throw input_error("{}: tensor {} holds a value that is not finite (NaN or infinity)", label(),
                      tensor.name);
  }
  return values;
}

}  // namespace lewis
