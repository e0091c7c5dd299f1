// The shards of a model folder while they are written: which tensors lie in which, and the bytes of
// one on its way to the disk, with its hashes.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/tensor.h"
#include "io/file.h"
#include "io/manifest.h"
#include "io/safetensors.h"

namespace lewis {

// One shard. Its file has a temporary name as long as it is open; whoever closes it renames it.
class ShardFile {
 public:
  ShardFile(std::string name, const std::vector<TensorInfo>& tensors);

  const std::string& name() const { return record_.name; }
  // In the order of the file: larger element types first, so that every tensor is aligned.
  const std::vector<SafetensorsFile::Entry>& entries() const { return layout_.entries(); }
  uint64_t file_bytes() const { return layout_.file_bytes(); }
  uint64_t missing() const { return missing_; }  // bytes of tensors that were not written
  bool is_open() const { return file_.has_value(); }
  const std::filesystem::path& path() const { return file_->path(); }  // while it is open

  // True for a shard that an earlier run, or another worker, has written.
  bool is_done() const { return done_; }
  void take_over(ShardRecord record);

  // Makes the file, takes its space on the disk and writes the header. Error(kResource) when the
  // disk is full.
  void open(const std::filesystem::path& temporary);
  // Bytes that begin `offset` bytes into tensor entries()[entry]; from any thread. True with the
  // last bytes of the shard.
  bool write(size_t entry, uint64_t offset, std::span<const std::byte> bytes);
  // When all bytes were written: flushes the file to the disk and completes the record.
  void close();
  const ShardRecord& record() const { return record_; }

 private:
  void add_to_hashes(const SafetensorsFile::Entry& entry, uint64_t offset,
                     std::span<const std::byte> bytes);

  SafetensorsLayout layout_;
  std::optional<File> file_;
  std::optional<SequentialWriter> writer_;  // into file_
  std::atomic<uint64_t> missing_ = 0;
  bool done_ = false;
  ShardRecord record_;
  // While bytes come in the order of the file they are hashed as they come.
  std::mutex mutex_;  // guards all that follows, and writer_
  Sha256 hash_;
  uint64_t hashed_ = 0;
  Xxh3 tensor_hash_;  // of the tensor that is being written
};

// All shards of a model.
struct ShardedTensors {
  struct Place {
    size_t shard = 0, entry = 0;
  };
  std::vector<std::unique_ptr<ShardFile>> shards;
  std::vector<TensorInfo> tensors;  // shard after shard
  std::vector<Place> places;        // of tensors
  uint64_t bytes = 0;               // of tensors

  // TensorWriter::lead
  size_t lead(size_t tensor, uint64_t offset) const;
};

// Sorts by name and begins a shard where the one before would have more than `shard_bytes` bytes of
// tensors. The names are those of Hugging Face. The same tensors give the same shards everywhere.
ShardedTensors sharded(std::vector<TensorInfo> tensors, uint64_t shard_bytes);

// The text of model.safetensors.index.json.
constexpr std::string_view kIndexName = "model.safetensors.index.json";
std::string index_text(const ShardedTensors& model);

}  // namespace lewis
