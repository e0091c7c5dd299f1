// Where tensors come from: a checkpoint on disk, the caller's memory, or a recipe that is merged
// while it is read. Everything that merges or runs a model reads through this interface, and a
// caller may implement it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <lewis/export.h>
#include <lewis/tensor.h>

namespace lewis {

class RangeSource;  // a file that lies at the other end of a network
struct FilePlace {
  const RangeSource* file = nullptr;
  uint64_t offset = 0, size = 0;  // in bytes
};

// The cost of reading a whole tensor, in bytes.
struct ReadCost {
  uint64_t disk_bytes = 0;
  uint64_t memory = 0;  // besides the bytes that are asked for
  // The bytes among these that come over a network, so that they can be fetched ahead.
  std::vector<FilePlace> places{};
};

class LEWIS_API TensorSource {
 public:
  virtual ~TensorSource() = default;

  // The name of this source in messages: the folder of a checkpoint, the file of a recipe.
  virtual const std::string& label() const = 0;

  // All tensors, sorted by name.
  virtual const std::vector<TensorInfo>& tensors() const = 0;

  // Reads elements [first, first + out.size() / dtype_size) of a tensor, as they are stored; bytes
  // where the elements are smaller than a byte (unit_count).
  // It may be called from several threads. `tensor` must be one of tensors(). Throws Error(kInput)
  // that names tensor and file when the bytes cannot be had.
  virtual void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const = 0;

  // The default is the cost of a checkpoint: the bytes themselves, and no more memory.
  virtual ReadCost read_cost(const TensorInfo& tensor) const { return {byte_size(tensor), 0}; }

  // The tensor of that name, or null.
  const TensorInfo* find(std::string_view name) const;
  // The same; throws Error(kInput) "LABEL: tensor NAME is missing".
  const TensorInfo& get(std::string_view name) const;
  // A whole tensor, widened to float: element_count values. Throws Error(kInput) when its dtype
  // is not F32, F16 or BF16, or when a value is not finite.
  std::vector<float> read_floats(const TensorInfo& tensor) const;
};

// Opens a model folder as Hugging Face writes it: model.safetensors, or shards with an index. The
// header of every shard is proven; no weight is read yet. Throws Error(kInput) that names the file:
// no such folder, a missing or truncated shard, an index and shards that contradict each other.
LEWIS_API std::shared_ptr<const TensorSource> open_checkpoint(const std::filesystem::path& folder);

// A tensor in the caller's memory: byte_size(info) bytes, row-major, little-endian.
struct MemoryTensor {
  TensorInfo info;
  std::span<const std::byte> bytes;
};

// A source of tensors in the caller's memory, which is not copied and must outlive the source.
// Throws Error(kUsage) that names the tensor: two of one name, or bytes that do not fit the shape.
LEWIS_API std::shared_ptr<const TensorSource> memory_source(std::string label,
                                                            std::vector<MemoryTensor> tensors);

}  // namespace lewis
