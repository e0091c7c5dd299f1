// Writes merged tensors in the spelling that the output has: those of experts may lie inside of
// larger ones (io/expert_tensors.h).
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "io/expert_tensors.h"
#include "io/tensor_writer.h"

namespace lewis {

// The tensors that are written.
std::vector<TensorInfo> infos_of(const std::vector<WrittenTensor>& written);

// Takes the parts of written tensors and gives them to a writer of those.
class FusingWriter final : public TensorWriter {
 public:
  // `merged`: the type and shape of every part; `inner` writes infos_of(written). Both must outlive
  // this.
  FusingWriter(TensorWriter& inner, const std::vector<WrittenTensor>& written,
               const std::vector<TensorInfo>& merged);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  bool is_done(size_t tensor) const override { return inner_.is_done(places_[tensor].tensor); }
  size_t lead(size_t tensor, uint64_t offset) const override;
  void write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) override;
  void add_file(const std::string& name, std::string_view content) override {
    inner_.add_file(name, content);
  }
  void add_note(const std::string& name, std::string_view content) override {
    inner_.add_note(name, content);
  }
  bool completes() override { return inner_.completes(); }
  std::filesystem::path readable() override { return inner_.readable(); }
  void commit(const Json& about) override { inner_.commit(about); }
  WrittenState state() const override { return inner_.state(); }
  void keep_partial() override { inner_.keep_partial(); }
  uint64_t tensor_bytes() const override { return inner_.tensor_bytes(); }
  size_t shards() const override { return inner_.shards(); }

 private:
  struct Place {
    size_t tensor = 0;  // of inner_
    Strides strides;
    size_t block = 0;  // of blocks_, where its elements do not lie one after the other
  };
  // Elements [first, end) of a tensor of inner_, into which several parts are woven.
  struct Block {
    int64_t first = 0, end = 0;
    uint64_t missing = 0;  // bytes of parts that have not come
    std::vector<std::byte> bytes;
  };

  TensorWriter& inner_;
  std::vector<TensorInfo> tensors_;
  std::vector<Place> places_;
  std::vector<Block> blocks_;
  std::mutex mutex_;                                // guards what follows and blocks_
  std::map<size_t, std::vector<std::byte>> begun_;  // woven parts that have come in part
};

}  // namespace lewis
