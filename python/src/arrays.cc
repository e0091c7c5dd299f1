#include "arrays.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include <lewis/error.h>

#include "run.h"

namespace lewis_python {
namespace {

using lewis::DType;
using Code = nb::dlpack::dtype_code;

struct TypeRow {
  DType dtype;
  Code code;
  uint8_t bits;
};
constexpr TypeRow kTypes[] = {
    {DType::kF64, Code::Float, 64},
    {DType::kF32, Code::Float, 32},
    {DType::kF16, Code::Float, 16},
    {DType::kBF16, Code::Bfloat, 16},
    {DType::kF8E4M3, Code::Float8_E4M3FN, 8},
    {DType::kF8E5M2, Code::Float8_E5M2, 8},
    {DType::kF8E4M3Fnuz, Code::Float8_E4M3FNUZ, 8},
    {DType::kF8E5M2Fnuz, Code::Float8_E5M2FNUZ, 8},
    {DType::kF8E8M0, Code::Float8_E8M0FNU, 8},
    {DType::kI64, Code::Int, 64},
    {DType::kI32, Code::Int, 32},
    {DType::kI16, Code::Int, 16},
    {DType::kI8, Code::Int, 8},
    {DType::kU64, Code::UInt, 64},
    {DType::kU32, Code::UInt, 32},
    {DType::kU16, Code::UInt, 16},
    {DType::kU8, Code::UInt, 8},
    {DType::kBool, Code::Bool, 8},
    {DType::kC64, Code::Complex, 64},
};

std::optional<DType> lewis_type(const nb::dlpack::dtype& type) {
  const auto row = std::ranges::find_if(kTypes, [&](const TypeRow& r) {
    return static_cast<uint8_t>(r.code) == type.code && r.bits == type.bits && type.lanes == 1;
  });
  return row == std::end(kTypes) ? std::nullopt : std::optional(row->dtype);
}

// One array: elements of `size` bytes at `data`, with strides in elements.
struct View {
  const std::byte* data = nullptr;
  size_t size = 1;
  lewis::Shape shape, strides;

  bool contiguous() const {
    int64_t expected = 1;
    for (size_t d = shape.size(); d-- > 0;) {
      if (shape[d] != 1 && strides[d] != expected) return false;
      expected *= shape[d];
    }
    return true;
  }
};

template <typename Word>
void copy_strided(const std::byte* from, int64_t stride, int64_t count, std::byte* to) {
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(to + i * static_cast<int64_t>(sizeof(Word)),
                from + i * stride * static_cast<int64_t>(sizeof(Word)), sizeof(Word));
  }
}

void copy_row(const View& v, const std::byte* from, int64_t count, std::byte* to) {
  const int64_t stride = v.strides.back();
  switch (v.size) {
    case 1:
      return copy_strided<uint8_t>(from, stride, count, to);
    case 2:
      return copy_strided<uint16_t>(from, stride, count, to);
    case 4:
      return copy_strided<uint32_t>(from, stride, count, to);
    default:
      return copy_strided<uint64_t>(from, stride, count, to);
  }
}

// Elements from `first` on, in row-major order, row after row of the last dimension.
void gather(const View& v, int64_t first, std::span<std::byte> out) {
  const size_t dimensions = v.shape.size();
  lewis::Shape index(dimensions);
  for (size_t d = dimensions; d-- > 0; first /= v.shape[d]) index[d] = first % v.shape[d];
  auto left = static_cast<int64_t>(out.size() / v.size);
  std::byte* to = out.data();
  while (left > 0) {
    int64_t offset = 0;
    for (size_t d = 0; d < dimensions; ++d) offset += index[d] * v.strides[d];
    const int64_t count = std::min(left, v.shape.back() - index.back());
    copy_row(v, v.data + offset * static_cast<int64_t>(v.size), count, to);
    to += count * static_cast<int64_t>(v.size);
    left -= count;
    index.back() = 0;
    for (size_t d = dimensions - 1; d-- > 0;) {
      if (++index[d] < v.shape[d]) break;
      index[d] = 0;
    }
  }
}

class ArraySource final : public lewis::TensorSource {
 public:
  ArraySource(std::string label, std::vector<std::pair<lewis::TensorInfo, View>> tensors)
      : label_(std::move(label)) {
    std::ranges::sort(tensors, {}, [](const auto& t) { return t.first.name; });
    for (auto& [info, view] : tensors) {
      infos_.push_back(std::move(info));
      views_.push_back(std::move(view));
    }
  }

  const std::string& label() const override { return label_; }
  const std::vector<lewis::TensorInfo>& tensors() const override { return infos_; }

  void read(const lewis::TensorInfo& tensor, int64_t first,
            std::span<std::byte> out) const override {
    if (out.empty()) return;
    const View& view = views_[static_cast<size_t>(&get(tensor.name) - infos_.data())];
    if (view.contiguous()) {
      std::memcpy(out.data(), view.data + first * static_cast<int64_t>(view.size), out.size());
    } else {
      gather(view, first, out);
    }
  }

  lewis::ReadCost read_cost(const lewis::TensorInfo&) const override { return {}; }

 private:
  std::string label_;
  std::vector<lewis::TensorInfo> infos_;
  std::vector<View> views_;
};

[[noreturn]] void refuse(const std::string& label, const std::string& name,
                         const std::string& why) {
  throw lewis::Error(lewis::ExitCode::kUsage, label + ": tensor " + name + " " + why);
}

constexpr const char* kExpected = ", expected an array: numpy's, or anything with __dlpack__";

}  // namespace

std::optional<nb::dlpack::dtype> dlpack_type(DType dtype) {
  const auto row = std::ranges::find(kTypes, dtype, &TypeRow::dtype);
  if (row == std::end(kTypes)) return std::nullopt;
  return nb::dlpack::dtype{static_cast<uint8_t>(row->code), row->bits, 1};
}

void Arrays::add(const std::string& name, nb::handle object, const std::string& dtype) {
  nb::ndarray<nb::ro> array;
  if (!nb::try_cast(object, array, false) || !array.is_valid())
    refuse(label_, name, "is of the type " + cpp_text(object.type().attr("__name__")) + kExpected);
  constexpr int kPinned = 3;  // kDLCUDAHost: the processor's memory all the same
  if (array.device_type() != nb::device::cpu::value && array.device_type() != kPinned)
    refuse(label_, name, "is not in the processor's memory: move it there first");
  const auto type = dtype.empty() ? lewis_type(array.dtype()) : lewis::dtype_from_name(dtype);
  if (!type || lewis::dtype_bits(*type) != array.dtype().bits) {
    refuse(label_, name,
           "has elements of " + std::to_string(array.dtype().bits) +
               " bits of a type that safetensors does not have");
  }
  lewis::TensorInfo info{name, *type, {}};
  for (size_t d = 0; d < array.ndim(); ++d)
    info.shape.push_back(static_cast<int64_t>(array.shape(d)));
  added_.push_back({std::move(info), std::move(array)});
}

std::shared_ptr<const lewis::TensorSource> Arrays::source() const {
  std::vector<std::pair<lewis::TensorInfo, View>> tensors;
  for (const Added& added : added_) {
    View view{static_cast<const std::byte*>(static_cast<const void*>(added.array.data())),
              lewis::dtype_size(added.info.dtype),
              added.info.shape,
              {}};
    for (size_t d = 0; d < added.array.ndim(); ++d) view.strides.push_back(added.array.stride(d));
    tensors.emplace_back(added.info, std::move(view));
  }
  return std::make_shared<const ArraySource>(label_, std::move(tensors));
}

}  // namespace lewis_python
