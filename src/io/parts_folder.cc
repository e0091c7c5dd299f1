#include "io/parts_folder.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/json.h"
#include "io/json_lines.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

JournalIdentity identity_of(const std::string& plan) { return {"merge", plan}; }

bool has_size(const fs::path& partial, const ShardRecord& shard) {
  std::error_code error;
  return fs::file_size(partial / shard.name, error) == shard.bytes && !error;
}

}  // namespace

std::vector<ShardRecord> shards_of_one_process(const fs::path& partial, const std::string& plan) {
  const fs::path journal = partial / kJournalName;
  std::vector<ShardRecord> finished;
  if (fs::exists(journal)) {
    for (const Json& record : read_json_lines(journal, identity_of(plan)))
      finished.push_back(shard_from_json(record));
  } else if (fs::exists(partial / kManifestName)) {
    Manifest whole = read_manifest(partial / kManifestName);
    if (whole.plan != plan) throw begun_otherwise(partial);
    finished = std::move(whole.shards);
  }
  return finished;
}

std::vector<ShardRecord> shards_of_workers(const fs::path& partial, const std::string& plan) {
  const PartsFolder parts(partial, plan);
  std::vector<ShardRecord> finished;
  if (!parts.check_plan()) return finished;
  for (const std::string& name : parts.recorded()) {
    if (auto record = parts.read(name)) finished.push_back(std::move(*record));
  }
  return finished;
}

PartsFolder::PartsFolder(const fs::path& partial, std::string plan)
    : partial_(partial), folder_(partial / kPartsFolder), plan_(std::move(plan)) {}

bool PartsFolder::check_plan() const {
  if (!fs::exists(folder_ / kPartsPlan)) return false;
  try {
    read_json_lines(folder_ / kPartsPlan, identity_of(plan_));
  } catch (const Error& e) {
    if (e.code() != ExitCode::kUsage) throw;
    throw usage_error(
        "{}: workers of another merge have begun it: its recipe, models, data, options or build of "
        "lewis differ; give this merge another OUT, or remove that folder when none of them runs",
        partial_.string());
  }
  return true;
}

// A journal of one record, which gets its name when it is whole.
void PartsFolder::put_journal(Worker& worker, const fs::path& file, const Json& record) const {
  const fs::path fresh = worker.temporary();
  JsonLines::begin(fresh, identity_of(plan_), std::array{record});
  fs::rename(fresh, file);
  sync_folder(folder_);
}

void PartsFolder::write_plan(Worker& worker, const ShardedTensors& model) const {
  Json plan = {{"shards", Json::array()}};
  for (const auto& shard : model.shards)
    plan["shards"].push_back({{"shard", shard->name()}, {"bytes", shard->file_bytes()}});
  put_journal(worker, folder_ / kPartsPlan, plan);
}

bool PartsFolder::is_unused() const {
  if (!names_ending(folder_, kShardRecordEnd).empty()) return false;
  if (fs::exists(partial_ / kJournalName) || fs::exists(partial_ / kManifestName)) return false;
  return workers_that_may_live(folder_).empty();
}

void refuse_workers(const fs::path& partial) {
  const fs::path folder = partial / kPartsFolder;
  const std::vector<std::string> workers = workers_that_may_live(folder);
  if (workers.empty()) return;
  throw usage_error(
      "{}: {} writes there; go on with --part or --finish, or remove the folder when no worker "
      "runs",
      partial.string(), describe_worker(folder, workers[0]));
}

std::set<std::string> PartsFolder::recorded() const {
  const std::vector<std::string> names = names_ending(folder_, kShardRecordEnd);
  return {names.begin(), names.end()};
}

std::optional<ShardRecord> PartsFolder::read(const std::string& shard) const {
  try {
    const auto records =
        read_json_lines(folder_ / (shard + std::string(kShardRecordEnd)), identity_of(plan_));
    if (records.size() != 1) return std::nullopt;
    ShardRecord record = shard_from_json(records[0]);
    if (record.name != shard) return std::nullopt;
    return record;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void PartsFolder::record(Worker& worker, const ShardRecord& shard,
                         std::optional<double> seconds) const {
  Json record = to_json(shard);
  if (seconds) {
    const WorkerState by = worker.state();
    record["by"] = {{"token", worker.token()},
                    {"host", by.host},
                    {"process", by.process},
                    {"task", by.task},
                    {"seconds", *seconds}};
  }
  put_journal(worker, folder_ / (shard.name + std::string(kShardRecordEnd)), record);
}

void PartsFolder::forget(const std::string& shard) const {
  fs::remove(folder_ / (shard + std::string(kShardRecordEnd)));
}

void PartsFolder::adopt(Worker& worker) const {
  const std::set<std::string> known = recorded();
  for (const ShardRecord& shard : shards_of_one_process(partial_, plan_)) {
    if (!known.contains(shard.name) && has_size(partial_, shard)) record(worker, shard);
  }
}

}  // namespace lewis
