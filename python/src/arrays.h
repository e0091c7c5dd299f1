// Arrays of Python as tensors of a model, without a copy.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <lewis/tensor_source.h>

namespace lewis_python {

namespace nb = nanobind;

// The type in DLPack (dlpack.h, DLDataTypeCode); nothing for types smaller than a byte.
std::optional<nb::dlpack::dtype> dlpack_type(lewis::DType dtype);

// The arrays of one model. It keeps them alive; the source reads their memory where it is.
class Arrays {
 public:
  // `label`: the model's name in the recipe and in messages.
  explicit Arrays(std::string label) : label_(std::move(label)) {}

  // Adds an array: anything with __dlpack__ or a buffer, in the processor's memory, with any
  // strides. `dtype`: the type where the array says it by another of the same size, as numpy does
  // for bfloat16 (safetensors' name); "": the array's own. Throws Error(kUsage) that names model
  // and tensor.
  void add(const std::string& name, nb::handle array, const std::string& dtype);

  const std::string& label() const { return label_; }
  // All that was added, sorted by name. It is valid while this object is. Throws Error(kUsage):
  // two tensors of one name.
  std::shared_ptr<const lewis::TensorSource> source() const;

 private:
  struct Added {
    lewis::TensorInfo info;
    nb::ndarray<nb::ro> array;
  };
  std::string label_;
  std::vector<Added> added_;
};

}  // namespace lewis_python
