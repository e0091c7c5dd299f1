// Where tensors come from: a checkpoint on disk, or a recipe merged on demand. Everything that
// runs or merges a model reads through this.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"

namespace lewis {

// The cost of reading a whole tensor.
struct ReadCost {
  uint64_t disk_bytes = 0;
  uint64_t memory = 0;  // besides the bytes that are asked for
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // The name of this source in messages: the folder of a checkpoint, the file of a recipe.
  virtual const std::string& label() const = 0;

  // All tensors, sorted by name.
  virtual const std::vector<TensorInfo>& tensors() const = 0;

  // Reads elements [first, first + out.size() / dtype_size) of a tensor, as they are stored.
  // May be called from several threads. `tensor` must be one of tensors(). Throws Error(kInput)
  // that names tensor and file when the bytes cannot be had.
  virtual void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const = 0;

  // The default suits a checkpoint: the bytes themselves, and no more memory.
  virtual ReadCost read_cost(const TensorInfo& tensor) const { return {byte_size(tensor), 0}; }

  // The tensor of that name, or null.
  const TensorInfo* find(std::string_view name) const;
  // The tensor of that name; throws Error(kInput) "LABEL: tensor NAME is missing".
  const TensorInfo& get(std::string_view name) const;
  // A whole tensor, widened to float: element_count values. Throws Error(kInput) when its dtype
  // is not F32, F16 or BF16, or when a value is not finite.
  std::vector<float> read_floats(const TensorInfo& tensor) const;
};

}  // namespace lewis
