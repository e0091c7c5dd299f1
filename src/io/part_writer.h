// Writes a share of a model folder's shards, beside other workers that write the other shares, on
// this machine or on others that see the same folder (docs/clusters.md).
#pragma once

#include <lewis/merge_part.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/progress.h"
#include "base/tensor.h"
#include "base/threads.h"
#include "base/whole_file.h"
#include "io/parts_folder.h"
#include "io/shard_file.h"
#include "io/tensor_writer.h"
#include "io/workers.h"

namespace lewis {

struct PartOptions {
  uint64_t shard_bytes = 5'000'000'000;
  bool force = false;             // replace an existing OUT
  std::string plan;               // hash of all that decides the bytes; never ""
  std::optional<MergePart> part;  // nothing: writes no shard, puts the shares together
  std::map<std::string, uint64_t> read_bytes{};  // by tensor: of its inputs, for the balance
  std::function<void()> check_inputs{};          // throws when the inputs were changed meanwhile
  ProgressFn progress{};                         // of checks and waits; it may throw
  WorkerPace pace{};
};

// The part of each piece of work: the costliest first, each to the part that has the least so far;
// the lower index where they are equal.
std::vector<uint64_t> parts_of(const std::vector<uint64_t>& costs, uint64_t count);

// Every worker knows all shards and who writes which from the headers alone. A shard is written
// under a name that nobody else uses, flushed, renamed, and recorded (io/parts_folder.h); so two
// workers of one shard write the same bytes twice, and nothing else happens. A worker leaves out
// shards that are recorded, and those that a living worker has claimed.
//
// The worker that finds all shards recorded checks every hash, adds the small files, index and
// manifest, and renames OUT.partial to OUT, with the bytes that ModelWriter writes. Of several at
// once one succeeds in the rename, and the others see a complete OUT, with which they are content.
// Whatever fails, the recorded shards stay.
class PartWriter final : public TensorWriter {
 public:
  // Error(kUsage) when OUT exists, or when OUT.partial is of another plan or of a process that
  // writes all of it. Error(kResource) when the share does not fit on the disk.
  PartWriter(const std::filesystem::path& out, std::vector<TensorInfo> tensors, PartOptions options,
             Threads& threads);

  // Those of this worker's share: finished ones, for which is_done() is true, and its own.
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  uint64_t tensor_bytes() const override;
  size_t shards() const override { return share_.size(); }

  bool is_done(size_t tensor) const override;
  size_t lead(size_t tensor, uint64_t offset) const override;
  void write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) override;
  // Checks every hash where all shards are there. Error(kVerify) that names the shards whose bytes
  // are not those that were written: their records are removed, so that the next worker of their
  // part writes them again. Error(kUsage) when shards are missing and there is no part.
  bool completes() override;
  std::filesystem::path readable() override;
  void add_file(const std::string& name, std::string_view content) override;
  void add_note(const std::string& name, std::string_view content) override;
  void commit(const Json& about) override;
  void keep_partial() override {}  // it always stays
  WrittenState state() const override;

 private:
  template <typename F>
  void unless_complete(const F& work);
  bool is_complete() const;
  bool becomes_complete() const;
  void rescue_renamed() const;
  void begin();
  void lock_marker();
  void choose_share();
  std::vector<size_t> planned_share() const;
  bool take_over(ShardFile& shard) const;
  void claim(const std::vector<size_t>& wanted);
  void add_tensors();
  void finish(ShardFile& shard);
  bool is_lost(const ShardFile& shard) const;
  bool begin_finish();
  bool claim_finish();
  std::vector<std::optional<ShardRecord>> records() const;
  void check_shards();
  void put_inner(const std::string& name, std::string_view content);
  void clean_up(const Manifest& manifest);
  void publish();
  void tick() const;
  std::string name_of_part() const;

  std::filesystem::path out_, partial_;
  PartOptions options_;
  Threads& threads_;
  PartsFolder parts_;
  std::optional<FileHandle> marker_;
  std::optional<Worker> worker_;
  ShardedTensors model_;  // all shards
  std::vector<size_t> share_;
  std::vector<TensorInfo> tensors_;  // of share_
  std::vector<ShardedTensors::Place> places_;
  std::map<std::string, std::string> files_;  // added files -> SHA-256
  std::vector<ShardRecord> records_;          // of all shards, when they were checked
  std::vector<std::string> notes_;
  std::mutex mutex_;  // guards the opening of shards, and notes_
  size_t missing_ = 0;
  bool finishing_ = false, committed_ = false;
  std::atomic<bool> complete_ = false;  // by another worker
};

}  // namespace lewis
