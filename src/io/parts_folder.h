// What lies in OUT.partial/.lewis-parts while workers write one model folder together
// (io/part_writer.h), and in OUT.partial where one process was interrupted.
//
//   plan            the plan of the merge and its shards; the first worker writes it
//   SHARD.record    a finished shard with its hashes, who has written it, and in how many seconds
//   SHARD.claim, finish.claim, TOKEN.worker, tmp-TOKEN-N    (io/workers.h)
//
// Every file gets its name by rename when it is whole and on the disk. plan and records are
// journals (io/json_lines.h), so that they know the merge and the build they belong to, and a
// changed bit is seen.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "io/manifest.h"
#include "io/out_folder.h"
#include "io/shard_file.h"
#include "io/workers.h"

namespace lewis {

// The finished shards that one process has left in OUT.partial, interrupted while it wrote, or a
// worker that was killed while it put the shares together. Error(kUsage): they are of another plan
// or build.
std::vector<ShardRecord> shards_of_one_process(const std::filesystem::path& partial,
                                               const std::string& plan);
// Those of workers. The same errors.
std::vector<ShardRecord> shards_of_workers(const std::filesystem::path& partial,
                                           const std::string& plan);

// Refuses, with Error(kUsage), an OUT.partial in which workers may be at work.
void refuse_workers(const std::filesystem::path& partial);

// The ending of a record's name, and the name of the plan.
inline constexpr std::string_view kShardRecordEnd = ".record", kPartsPlan = "plan";

class PartsFolder {
 public:
  PartsFolder(const std::filesystem::path& partial, std::string plan);

  const std::filesystem::path& path() const { return folder_; }

  // Refuses what workers of another merge have begun, with Error(kUsage). True if the folder has a
  // plan, which is this one.
  bool check_plan() const;
  void write_plan(Worker& worker, const ShardedTensors& model) const;
  // True where nothing would be lost if another merge began here: no shard is finished, and nobody
  // is at work.
  bool is_unused() const;

  // The names of the finished shards.
  std::set<std::string> recorded() const;
  // Nothing where there is no record, or none that can be believed.
  std::optional<ShardRecord> read(const std::string& shard) const;
  // `seconds`: that the worker took for it, by its own clock; nothing for what another process has
  // written.
  void record(Worker& worker, const ShardRecord& shard,
              std::optional<double> seconds = std::nullopt) const;
  void forget(const std::string& shard) const;

  // Records the finished shards of shards_of_one_process, and refuses as it does.
  void adopt(Worker& worker) const;

 private:
  void put_journal(Worker& worker, const std::filesystem::path& file, const Json& record) const;

  std::filesystem::path partial_, folder_;
  std::string plan_;
};

}  // namespace lewis
