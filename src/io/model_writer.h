// Writes a model folder that is there complete or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/tensor.h"
#include "io/json_lines.h"
#include "io/manifest.h"
#include "io/shard_file.h"
#include "io/tensor_writer.h"

namespace lewis {

struct WriterOptions {
  uint64_t shard_bytes = 5'000'000'000;  // largest shard; a larger tensor gets one of its own
  bool force = false;                    // replace an existing OUT
  bool resume = false;           // take over the finished shards of OUT.partial, if it is there
  bool require_partial = false;  // with `resume`: Error(kUsage) where it is not
  std::string plan;              // hash of all that decides the bytes; "" with no resume
};

// Writes a model folder in safetensors, crash-safe. Everything is written to OUT.partial: each
// shard under a temporary name, which is flushed and renamed when its last byte has come, followed
// by a record in OUT.partial/manifest.jsonl. commit() writes the index and lewis_manifest.json,
// flushes the folder, renames it to OUT and flushes the folder above. Without commit the destructor
// removes OUT.partial, unless keep_partial() was called.
class ModelWriter final : public TensorWriter {
 public:
  // Makes OUT.partial and allocates the shards' space. Error(kResource) when it does not fit;
  // Error(kUsage) when another process writes there, or when what is to be resumed is of another
  // plan.
  ModelWriter(std::filesystem::path out, std::vector<TensorInfo> tensors,
              const WriterOptions& options);
  ~ModelWriter() override;
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  // In the order in which they lie in the shards: sorted by name, larger element types first within
  // a shard.
  const std::vector<TensorInfo>& tensors() const override { return model_.tensors; }
  size_t shards() const override { return model_.shards.size(); }
  uint64_t tensor_bytes() const override { return model_.bytes; }

  bool is_done(size_t tensor) const override;
  size_t lead(size_t tensor, uint64_t offset) const override;
  void write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) override;
  void add_file(const std::string& name, std::string_view content) override;
  std::filesystem::path readable() override;
  // The manifest does not list it.
  void add_note(const std::string& name, std::string_view content) override;
  void commit(const Json& about) override;
  void commit();  // with nothing to say about it
  void keep_partial() override { keep_ = true; }

 private:
  void make_partial();
  void check_space() const;
  void take_over();
  std::vector<ShardRecord> finished_shards() const;
  JournalIdentity identity() const { return {"merge", plan_}; }
  void begin_journal();
  void remove_rest() const;
  void open_shards();
  void finish(ShardFile& shard);

  std::filesystem::path out_, partial_;
  bool force_;
  std::string plan_;
  ShardedTensors model_;
  std::map<std::string, std::string> files_;  // added files -> SHA-256
  std::optional<File> marker_;                // locked while this writes
  std::optional<JsonLines> journal_;
  std::mutex journal_mutex_;
  bool committed_ = false, keep_ = false;
};

}  // namespace lewis
