// A tensor too large to be in memory whole: read, merged and written block by block.
#pragma once

#include <future>

#include "base/page_buffer.h"
#include "io/tensor_writer.h"
#include "merge/inputs.h"
#include "merge/tensor/tensor_io.h"

namespace lewis {

// Reads the next range while this one is used. A method whose survey needs the whole tensor reads
// it once more for each of its passes.
class StreamedInputs final : public TensorInputs {
 public:
  // `block_elements`: at least 1. The sources must outlive this.
  StreamedInputs(std::vector<MergeSource> sources, int64_t block_elements)
      : sources_(std::move(sources)), block_elements_(block_elements) {}
  int64_t block_elements() const override { return block_elements_; }
  void visit(std::span<const ElementRange> ranges, const Use& use) const override;

 private:
  struct Buffers {
    std::vector<PageBuffer> rooms;  // one per source
    std::vector<StoredTensor> stored;
  };

  std::vector<MergeSource> sources_;
  int64_t block_elements_;
  mutable Buffers buffers_[2];
};

// Writes a range while the next one is computed.
class StreamedOutput final : public TensorOutput {
 public:
  // `tensor`: into TensorWriter::tensors().
  StreamedOutput(TensorWriter& writer, size_t tensor) : writer_(writer), tensor_(tensor) {}
  ~StreamedOutput() override;
  std::span<std::byte> begin(const ElementRange& range) override;
  void end() override;
  // Waits for the last write; throws what it threw.
  void finish();

 private:
  TensorWriter& writer_;
  size_t tensor_;
  PageBuffer rooms_[2];
  size_t turn_ = 0;
  uint64_t offset_ = 0;
  std::span<std::byte> current_;
  std::future<void> pending_;
};

}  // namespace lewis
