// Tensors in memory, as a source or as a safetensors file.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "io/tensor_source.h"

namespace lewis {

class MemorySource final : public TensorSource {
 public:
  void add_bytes(const std::string& name, DType dtype, const Shape& shape,
                 std::vector<std::byte> bytes) {
    const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                     [](const TensorInfo& t, const auto& n) { return t.name < n; });
    tensors_.insert(at, {name, dtype, shape});
    bytes_[name] = std::move(bytes);
  }
  // Values as the type; integers get zeros.
  void add(const std::string& name, DType dtype, const Shape& shape,
           const std::vector<float>& values) {
    std::vector<std::byte> bytes(static_cast<size_t>(element_count(shape)) * dtype_size(dtype));
    if (is_arithmetic(dtype)) narrow(values, dtype, bytes.data());
    add_bytes(name, dtype, shape, std::move(bytes));
  }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const TensorInfo& t) { return t.name == name; });
  }

  void write(const std::filesystem::path& file) const {
    std::vector<std::span<const std::byte>> data;
    for (const TensorInfo& t : tensors_) data.emplace_back(bytes_.at(t.name));
    write_safetensors(file, tensors_, data, {});
  }

  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const size_t begin = static_cast<size_t>(first) * dtype_size(tensor.dtype);
    if (!out.empty()) std::memcpy(out.data(), bytes_.at(tensor.name).data() + begin, out.size());
  }

 private:
  std::string label_ = "memory";
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::vector<std::byte>> bytes_;
};

}  // namespace lewis
