// Checkpoints and the caller's memory as sources of tensors (include/lewis/tensor_source.h).
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "io/checkpoint.h"
#include "io/tensor_bytes.h"

namespace lewis {
namespace {

class MemorySpans final : public TensorSource {
 public:
  MemorySpans(std::string label, std::vector<MemoryTensor> tensors)
      : label_(std::move(label)), given_(std::move(tensors)) {
    std::ranges::sort(given_, {}, [](const MemoryTensor& t) { return t.info.name; });
    for (const MemoryTensor& t : given_) {
      if (!tensors_.empty() && tensors_.back().name == t.info.name)
        throw usage_error("{}: two tensors have the name {}", label_, t.info.name);
      check_size(t);
      tensors_.push_back(t.info);
    }
  }

  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const TensorInfo* known = find(tensor.name);
    if (!known) throw input_error("{}: tensor {} is missing", label_, tensor.name);
    const auto bytes = given_[static_cast<size_t>(known - tensors_.data())].bytes;
    const size_t begin = static_cast<size_t>(first) * dtype_size(known->dtype);
    if (!out.empty()) std::memcpy(out.data(), bytes.data() + begin, out.size());
  }

  ReadCost read_cost(const TensorInfo&) const override { return {}; }

 private:
  void check_size(const MemoryTensor& t) const {
    try {
      checked_byte_size(t.info);
    } catch (const Error& e) {
      throw usage_error("{}: tensor {}: {}", label_, t.info.name, e.what());
    }
    if (byte_size(t.info) != t.bytes.size()) {
      throw usage_error("{}: tensor {} has {} bytes, expected {} for {} {}", label_, t.info.name,
                        t.bytes.size(), byte_size(t.info), dtype_name(t.info.dtype),
                        to_string(t.info.shape));
    }
  }

  std::string label_;
  std::vector<MemoryTensor> given_;  // sorted by name, as tensors_
  std::vector<TensorInfo> tensors_;
};

}  // namespace

std::shared_ptr<const TensorSource> open_checkpoint(const std::filesystem::path& folder) {
  return std::make_shared<const Checkpoint>(Checkpoint::open(folder));
}

std::shared_ptr<const TensorSource> memory_source(std::string label,
                                                  std::vector<MemoryTensor> tensors) {
  return std::make_shared<const MemorySpans>(std::move(label), std::move(tensors));
}

}  // namespace lewis
