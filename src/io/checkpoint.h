// A model folder as Hugging Face writes it: config.json and model.safetensors, or shards with an
// index.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "io/safetensors.h"
#include "io/tensor_source.h"

namespace lewis {

struct CheckpointIndex;  // where model.safetensors.index.json says that tensors are

class Checkpoint final : public TensorSource {
 public:
  // Opens every shard and proves every header. Throws Error(kInput) that names the file: no such
  // folder, missing or truncated shard, an index that names a file outside the folder. Where index
  // and shards contradict each other, the shards decide, as they do in transformers (see notes).
  // `far` has the shards that are not in the folder; null: there are none.
  static Checkpoint open(const std::filesystem::path& folder,
                         std::shared_ptr<const FarFiles> far = nullptr);

  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override;
  ReadCost read_cost(const TensorInfo& tensor) const override;

  const std::filesystem::path& folder() const { return folder_; }
  std::vector<std::filesystem::path> shard_paths() const;
  // config.json, parsed. Error(kInput) when it is missing or not an object.
  const Json& config() const;
  // One line for each way in which the folder says something that was not followed: an index that
  // names tensors which no shard holds or which lie in another one, that names one twice, or leaves
  // some out; a tensor in several shards; shards beside those that are read.
  const std::vector<std::string>& notes() const { return notes_; }
  // Sum of the tensors' bytes.
  uint64_t total_bytes() const;
  // A hash that changes when the checkpoint does: SHA-256 over names, sizes, times of change and
  // headers of the shards and the bytes of config.json. Does not read the weights. A shard that
  // lies elsewhere has its identity instead of size and time.
  std::string fingerprint() const;

 private:
  Checkpoint() = default;
  bool has(std::string_view file) const;
  const SafetensorsFile& shard_of(const TensorInfo& tensor) const;
  void open_shards(const CheckpointIndex& index);
  void choose_tensors(const CheckpointIndex& index);

  std::filesystem::path folder_;
  std::shared_ptr<const FarFiles> far_;
  std::string label_;
  std::vector<TensorInfo> tensors_;  // sorted by name
  std::vector<size_t> shard_of_;     // per tensor: index into shards_
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::vector<std::string> notes_;
  std::string choices_;                 // which shards were chosen for tensors that several hold
  std::shared_ptr<const Json> config_;  // null: there is no config.json
};

}  // namespace lewis
