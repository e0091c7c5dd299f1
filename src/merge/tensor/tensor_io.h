// The inputs of merging a tensor, and the place for its result: in memory as a whole, or block by
// block for tensors that would not fit.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace lewis {

// Stored elements of one model's tensor: all, or those of a block.
struct StoredTensor {
  DType dtype = DType::kF32;
  std::span<const std::byte> bytes;
  std::string_view model;  // for messages
};

// Elements [first, first + count) of a tensor.
struct ElementRange {
  int64_t first = 0, count = 0;
};

// One tensor of all models.
class TensorInputs {
 public:
  using Use =
      std::function<void(const ElementRange& range, std::span<const StoredTensor> of_range)>;
  virtual ~TensorInputs() = default;

  // The largest number of elements in a range; 0: everything is in memory, so there is no limit.
  virtual int64_t block_elements() const = 0;
  // Calls `use` for each range in order, with the elements of the models and then those of the base
  // if there is one.
  virtual void visit(std::span<const ElementRange> ranges, const Use& use) const = 0;
};

// Takes the result, range by range in order.
class TensorOutput {
 public:
  virtual ~TensorOutput() = default;
  // Room for the elements of a range.
  virtual std::span<std::byte> begin(const ElementRange& range) = 0;
  // Says that the elements of the range are complete.
  virtual void end() = 0;
};

// The ranges of `block` elements (0: all) that make up `count`.
std::vector<ElementRange> ranges_of(int64_t count, int64_t block);

class MemoryInputs final : public TensorInputs {
 public:
  explicit MemoryInputs(std::vector<StoredTensor> tensors) : tensors_(std::move(tensors)) {}
  int64_t block_elements() const override { return 0; }
  void visit(std::span<const ElementRange> ranges, const Use& use) const override;

 private:
  std::vector<StoredTensor> tensors_;
};

class MemoryOutput final : public TensorOutput {
 public:
  MemoryOutput(std::span<std::byte> bytes, size_t element_size)
      : bytes_(bytes), element_size_(element_size) {}
  std::span<std::byte> begin(const ElementRange& range) override {
    return bytes_.subspan(static_cast<size_t>(range.first) * element_size_,
                          static_cast<size_t>(range.count) * element_size_);
  }
  void end() override {}

 private:
  std::span<std::byte> bytes_;
  size_t element_size_;
};

}  // namespace lewis
