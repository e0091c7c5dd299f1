#include "io/cast_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "io/quantized_source.h"
#include "io/tied_head.h"

namespace lewis {
namespace {

class CastSource final : public TensorSource {
 public:
  CastSource(std::shared_ptr<const TensorSource> source, const std::map<std::string, DType>& types)
      : source_(std::move(source)) {
    for (TensorInfo t : source_->tensors()) {
      const auto type = types.find(t.name);
      if (type != types.end()) {
        cast_.emplace(t.name, t);
        t.dtype = type->second;
      }
      tensors_.push_back(std::move(t));
    }
  }

  const std::string& label() const override { return source_->label(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  ReadCost read_cost(const TensorInfo& tensor) const override {
    const auto found = cast_.find(tensor.name);
    return source_->read_cost(found == cast_.end() ? tensor : found->second);
  }

  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const auto found = cast_.find(tensor.name);
    if (found == cast_.end()) return source_->read(tensor, first, out);
    const TensorInfo& stored = found->second;
    constexpr size_t kPiece = 1024;
    std::array<std::byte, kPiece * sizeof(double)> bytes;
    std::array<float, kPiece> values;
    const size_t size = dtype_size(tensor.dtype), count = out.size() / size;
    for (size_t at = 0; at < count; at += kPiece) {
      const size_t n = std::min(kPiece, count - at);
      const std::span piece(bytes.data(), n * dtype_size(stored.dtype));
      source_->read(stored, first + static_cast<int64_t>(at), piece);
      to_floats(stored.dtype, piece, std::span(values.data(), n));
      narrow(std::span(values.data(), n), tensor.dtype, out.data() + at * size);
    }
  }

 private:
  static void to_floats(DType dtype, std::span<const std::byte> bytes, std::span<float> values) {
    if (dtype != DType::kF64) return widen(dtype, bytes.data(), values);
    for (size_t i = 0; i < values.size(); ++i) {
      double value;
      std::memcpy(&value, bytes.data() + i * sizeof(double), sizeof(double));
      values[i] = static_cast<float>(value);
    }
  }

  std::shared_ptr<const TensorSource> source_;
  std::map<std::string, TensorInfo> cast_;  // as they are stored
  std::vector<TensorInfo> tensors_;
};

bool is_norm(const TensorInfo& t) {
  if (t.shape.size() != 1) return false;
  for (const char* part : {"norm", "Norm", "ln_"}) {
    if (t.name.find(part) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

CastModel cast_odd_floats(std::shared_ptr<const TensorSource> source) {
  const auto odd = [](const TensorInfo& t) { return t.dtype == DType::kF64 || is_float8(t.dtype); };
  if (std::ranges::none_of(source->tensors(), odd)) return {std::move(source), {}};
  const HeadTensors ends = find_head(source->tensors());
  std::map<std::string, DType> cast;
  CastModel result;
  for (const TensorInfo& t : source->tensors()) {
    const bool known = &t == ends.embedding || &t == ends.head || is_norm(t);
    if (!odd(t) || !known || has_scale(*source, t.name)) continue;
    cast.emplace(t.name, t.dtype == DType::kF64 ? DType::kF32 : DType::kBF16);
    result.cast.push_back(t.name);
  }
  result.source = shown_as(std::move(source), cast);
  return result;
}

std::shared_ptr<const TensorSource> shown_as(std::shared_ptr<const TensorSource> source,
                                             const std::map<std::string, DType>& types) {
  if (types.empty()) return source;
  return std::make_shared<const CastSource>(std::move(source), types);
}

}  // namespace lewis
