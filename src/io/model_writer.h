// Writes a model folder that is there complete or not at all.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "io/safetensors.h"

namespace lewis {

struct WriterOptions {
  uint64_t shard_bytes = 5'000'000'000;  // largest shard; a larger tensor gets one of its own
  bool force = false;                    // replace an existing OUT
};

// Refuses, with Error(kUsage), an OUT that is a source, lies inside one, or holds one; links and
// ".." are resolved first.
void refuse_out_in_sources(const std::filesystem::path& out,
                           std::span<const std::filesystem::path> sources);
// Refuses an OUT that exists unless `force`, and with it an OUT that holds anything but the files
// of a model folder. Error(kUsage).
void refuse_existing_out(const std::filesystem::path& out, bool force);

// The files beside the weights that belong to a model: config, tokenizer, chat template.
std::span<const std::string_view> tokenizer_file_names();

// Everything is written to OUT.partial: each shard under a temporary name, fsync, rename when its
// last byte has come. commit() writes the index, flushes the folder and renames it to OUT. Without
// commit the destructor removes OUT.partial.
class ModelWriter {
 public:
  // Makes OUT.partial and allocates the shards' space. Error(kResource) when it does not fit.
  ModelWriter(std::filesystem::path out, std::vector<TensorInfo> tensors,
              const WriterOptions& options);
  ~ModelWriter();
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  // In the order in which they lie in the shards; sorted by name, larger element types first within
  // a shard. Writing in this order finishes shard after shard.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  size_t shards() const { return shards_.size(); }
  uint64_t tensor_bytes() const { return tensor_bytes_; }

  // Bytes [offset, offset + bytes.size()) of tensors()[tensor]; each byte once; from any thread.
  void write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes);
  // A small file in the folder, beside the shards.
  void add_file(const std::string& name, std::string_view content);

  // Error(kFailed) when a tensor was not written whole.
  void commit();

 private:
  struct Shard;
  void finish(Shard& shard);

  std::filesystem::path out_, partial_;
  bool force_;
  std::vector<TensorInfo> tensors_;
  std::vector<size_t> shard_of_;  // per tensor
  std::vector<uint64_t> begin_;   // per tensor, in its shard's file
  std::vector<std::unique_ptr<Shard>> shards_;
  uint64_t tensor_bytes_ = 0;
  bool committed_ = false;
};

}  // namespace lewis
