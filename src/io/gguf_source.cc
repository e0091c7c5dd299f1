#include "io/gguf_source.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "io/gguf_types.h"

namespace lewis {
namespace {

constexpr int64_t kPiece = 1 << 14;  // elements of blocks that are widened at a time

class GgufSource final : public TensorSource {
 public:
  GgufSource(std::string label, std::vector<ShownGgufTensor> shown)
      : label_(std::move(label)), shown_(std::move(shown)) {
    std::ranges::sort(shown_, {}, &ShownGgufTensor::name);
    for (const ShownGgufTensor& t : shown_)
      tensors_.push_back({t.name, t.entry->info.dtype, t.shape});
  }

  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  ReadCost read_cost(const TensorInfo& tensor) const override {
    const ShownGgufTensor& t = shown(tensor);
    if (!t.entry->is_blocks()) return TensorSource::read_cost(tensor);
    const auto share = static_cast<double>(element_count(t.shape)) /
                       static_cast<double>(element_count(t.entry->info.shape));
    return {static_cast<uint64_t>(share * static_cast<double>(t.entry->bytes)),
            2 * kPiece * sizeof(float)};
  }

  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const ShownGgufTensor& t = shown(tensor);
    if (t.rope_heads == 0) return read_run(t, t.first + first, out);
    const int64_t rows = t.shape[0], columns = element_count(t.shape) / rows;
    const size_t size = dtype_size(tensor.dtype);
    for (int64_t at = first; !out.empty();) {
      const int64_t row = row_in_rope(at / columns, rows, t.rope_heads), column = at % columns;
      const int64_t n = std::min(columns - column, static_cast<int64_t>(out.size() / size));
      read_run(t, t.first + row * columns + column, out.first(static_cast<size_t>(n) * size));
      out = out.subspan(static_cast<size_t>(n) * size);
      at += n;
    }
  }

 private:
  const ShownGgufTensor& shown(const TensorInfo& tensor) const {
    const TensorInfo* known = find(tensor.name);
    if (!known) throw input_error("{}: tensor {} is missing", label_, tensor.name);
    return shown_[static_cast<size_t>(known - tensors_.data())];
  }

  // Elements from `begin` of the stored tensor on, one after the other.
  static void read_run(const ShownGgufTensor& t, int64_t begin, std::span<std::byte> out) {
    if (!t.entry->is_blocks()) {
      const size_t size = dtype_size(t.entry->info.dtype);
      return t.file->read(*t.entry, static_cast<uint64_t>(begin) * size, out);
    }
    const GgufTypeInfo& type = gguf_type(t.entry->type);
    const int64_t end = begin + static_cast<int64_t>(out.size() / sizeof(float));
    std::vector<std::byte> stored;
    std::vector<float> values;
    for (int64_t at = begin; at < end;) {
      const int64_t before = at / type.block * type.block;
      const int64_t after = (std::min(end, before + kPiece) + type.block - 1) / type.block *
                            type.block;  // kPiece is a multiple of every block
      const auto blocks = static_cast<size_t>((after - before) / type.block);
      stored.resize(blocks * type.bytes);
      values.resize(static_cast<size_t>(after - before));
      t.file->read(*t.entry, static_cast<uint64_t>(before / type.block) * type.bytes, stored);
      decode_gguf(type.type, stored.data(), values);
      const int64_t n = std::min(end, after) - at;
      std::memcpy(out.data() + static_cast<size_t>(at - begin) * sizeof(float),
                  values.data() + (at - before), static_cast<size_t>(n) * sizeof(float));
      at += n;
    }
  }

  std::string label_;
  std::vector<ShownGgufTensor> shown_;  // sorted by name, as tensors_
  std::vector<TensorInfo> tensors_;
};

}  // namespace

std::shared_ptr<const TensorSource> show_gguf(std::string label,
                                              std::vector<ShownGgufTensor> tensors) {
  return std::make_shared<const GgufSource>(std::move(label), std::move(tensors));
}

int64_t row_of_rope(int64_t row, int64_t rows, int64_t heads) {
  const int64_t size = rows / heads, head = row / size, within = row % size;
  return head * size + within % 2 * (size / 2) + within / 2;
}

int64_t row_in_rope(int64_t row, int64_t rows, int64_t heads) {
  const int64_t size = rows / heads, head = row / size, within = row % size;
  return head * size + within % (size / 2) * 2 + within / (size / 2);
}

}  // namespace lewis
