#include "io/merge_status.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <tuple>

#include "base/error.h"
#include "base/json.h"
#include "io/json_lines.h"
#include "io/manifest.h"
#include "io/out_folder.h"
#include "io/parts_folder.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

using Bytes = std::map<std::string, uint64_t>;  // by shard

uint64_t total(const Bytes& shards) {
  uint64_t bytes = 0;
  for (const auto& [_, its] : shards) bytes += its;
  return bytes;
}

// The finished shards of the journal of one process.
Bytes shards_of(const SeenJournal& journal) {
  Bytes shards;
  for (const Json& record : journal.records) {
    const ShardRecord shard = shard_from_json(record);
    shards[shard.name] = shard.bytes;
  }
  return shards;
}

// The process on this machine that has the marker of OUT.partial locked, as the system lists locks:
// taking the lock would keep a lewis out that begins just then.
std::optional<int64_t> process_at(const fs::path& marker) {
  struct stat file {};
  if (::stat(marker.c_str(), &file) != 0) return std::nullopt;
  const std::string place =
      fmt::format("{:02x}:{:02x}:{}", major(file.st_dev), minor(file.st_dev), file.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, advice, access, where;
    int64_t process = 0;
    if (words >> number >> kind >> advice >> access >> process >> where && kind == "FLOCK" &&
        where == place)
      return process;
  }
  return std::nullopt;
}

void set_complete(MergeStatus& status, const Manifest& manifest) {
  status.program = manifest.about->value("lewis_version", "");
  status.shards = status.shards_done = manifest.shards.size();
  for (const ShardRecord& shard : manifest.shards) status.bytes += shard.bytes;
  status.bytes_done = status.bytes;
}

// ---- workers ----

struct Parts {
  fs::path folder;
  std::string key;  // of the plan
  Bytes planned, done;
};

void add_written(MergeStatus& status, const std::vector<Json>& records) {
  using Who = std::tuple<std::string, std::string, int64_t>;  // task, host, process
  std::map<Who, std::pair<WrittenBy, double>> by;             // with its seconds
  for (const Json& record : records) {
    const Json who = record.value("by", Json{{"task", "one process"}});
    const Who key{who.value("task", ""), who.value("host", ""), who.value("process", int64_t{0})};
    auto& [sum, seconds] = by[key];
    std::tie(sum.task, sum.host, sum.process) = key;
    sum.shards += 1;
    sum.bytes += record.value("bytes", uint64_t{0});
    seconds += who.value("seconds", 0.0);
  }
  for (auto& [_, its] : by) {
    auto& [sum, seconds] = its;
    if (seconds > 0) sum.speed = static_cast<double>(sum.bytes) / seconds;
    status.written.push_back(std::move(sum));
  }
}

void read_records(MergeStatus& status, Parts& parts) {
  std::vector<Json> records;
  size_t strange = 0;
  for (const std::string& name : names_ending(parts.folder, kShardRecordEnd)) {
    try {
      const SeenJournal seen =
          look_at_journal(parts.folder / (name + std::string(kShardRecordEnd)));
      const ShardRecord shard = shard_from_json(seen.records.at(0));
      if (shard.name != name || seen.identity.key != parts.key) throw input_error("of another");
      parts.done[name] = shard.bytes;
      records.push_back(seen.records[0]);
    } catch (const std::exception&) {  // whoever puts the shares together names it
      ++strange;
    }
  }
  if (strange > 0)
    status.notes.push_back(fmt::format("{} records of shards cannot be believed", strange));
  add_written(status, records);
}

std::map<std::string, std::vector<std::string>> claims_of(const fs::path& folder) {
  std::map<std::string, std::vector<std::string>> claims;  // by worker
  for (const std::string& name : names_ending(folder, ".claim")) {
    std::error_code error;
    const fs::path owner = fs::read_symlink(folder / (name + ".claim"), error);
    if (!error) claims[owner.string()].push_back(name);
  }
  return claims;
}

WorkerStatus worker_status(const Parts& parts, const std::string& token, const WorkerState& state,
                           const std::vector<std::string>& claims) {
  WorkerStatus worker{token, state.host, state.task, state.process, false, false, {}, 0, {}, false};
  for (const std::string& name : claims) {
    const auto shard = parts.planned.find(name);
    if (shard == parts.planned.end()) {
      worker.finishes = true;  // the one claim that is of no shard
    } else if (!parts.done.contains(name)) {
      worker.shards.push_back(name);
      worker.bytes_left += shard->second;
    }
  }
  if (state.seconds > 0 && state.bytes > 0)
    worker.speed = static_cast<double>(state.bytes) / state.seconds;
  return worker;
}

void read_workers(MergeStatus& status, const Parts& parts, const WorkerPace& pace,
                  const std::function<void()>& tick) {
  const auto tokens = workers_that_may_live(parts.folder);
  const std::set<std::string> all(tokens.begin(), tokens.end());
  // Those of this machine are known at once.
  const auto here = living_workers(parts.folder, all, {pace.beat, {}}, tick);
  const auto alive = living_workers(parts.folder, all, pace, tick);
  auto claims = claims_of(parts.folder);
  std::set<std::string> taken;
  for (const std::string& token : tokens) {
    const auto state = read_worker(parts.folder, token);
    if (!state) continue;
    WorkerStatus worker = worker_status(parts, token, *state, claims[token]);
    worker.here = here.contains(token);
    worker.alive = alive.contains(token);
    if (worker.alive) taken.insert(worker.shards.begin(), worker.shards.end());
    status.workers.push_back(std::move(worker));
  }
  for (const auto& [name, _] : parts.planned) {
    if (!parts.done.contains(name) && !taken.contains(name)) status.free.push_back(name);
  }
}

// The speed of all together, and the time of the one that takes longest.
void add_times(MergeStatus& status) {
  double speed = 0, longest = 0;
  bool known = false, all_known = true;
  for (const WorkerStatus& worker : status.workers) {
    if (!worker.alive || worker.shards.empty()) continue;
    if (!worker.speed) {
      all_known = false;
      continue;
    }
    known = true;
    speed += *worker.speed;
    longest = std::max(longest, static_cast<double>(worker.bytes_left) / *worker.speed);
  }
  if (known) status.speed = speed;
  if (known && all_known) status.seconds_left = longest;
}

// What one process has left, before workers went on, counts as theirs.
void add_left(MergeStatus& status, const fs::path& partial, Parts& parts) {
  if (!fs::exists(partial / kJournalName)) return;
  Bytes its = shards_of(look_at_journal(partial / kJournalName));
  std::erase_if(its, [&](const auto& shard) { return parts.done.contains(shard.first); });
  parts.done.insert(its.begin(), its.end());
  if (!its.empty()) status.written.push_back({"", "one process", 0, its.size(), total(its), {}});
}

void look_at_workers(MergeStatus& status, const fs::path& partial, const WorkerPace& pace,
                     const std::function<void()>& tick) {
  status.state = MergeState::kWorkers;
  Parts parts{partial / kPartsFolder, "", {}, {}};
  if (!fs::exists(parts.folder / kPartsPlan)) {
    status.notes.push_back("no worker has written the plan yet");
    read_workers(status, parts, pace, tick);
    return;
  }
  const SeenJournal plan = look_at_journal(parts.folder / kPartsPlan);
  status.program = plan.program;
  parts.key = plan.identity.key;
  for (const Json& shard : plan.records.at(0).at("shards"))
    parts.planned[shard.at("shard").get<std::string>()] = shard.at("bytes").get<uint64_t>();
  read_records(status, parts);
  add_left(status, partial, parts);
  std::erase_if(parts.done,
                [&](const auto& shard) { return !parts.planned.contains(shard.first); });
  status.shards = parts.planned.size();
  status.shards_done = parts.done.size();
  status.bytes = total(parts.planned);
  status.bytes_done = total(parts.done);
  read_workers(status, parts, pace, tick);
  add_times(status);
}

// ---- one process ----

// Bytes per second by the times at which successive shards were written, which one clock has given:
// the median, so that a pause between two runs does not count.
std::optional<double> speed_by_files(const fs::path& partial, const Bytes& done) {
  std::vector<double> speeds;
  std::optional<fs::file_time_type> before;
  for (const auto& [name, bytes] : done) {
    std::error_code error;
    const auto time = fs::last_write_time(partial / name, error);
    if (error) return std::nullopt;
    const double seconds = before ? std::chrono::duration<double>(time - *before).count() : 0;
    if (seconds > 0) speeds.push_back(static_cast<double>(bytes) / seconds);
    before = time;
  }
  if (speeds.empty()) return std::nullopt;
  std::ranges::nth_element(speeds, speeds.begin() + static_cast<ptrdiff_t>(speeds.size() / 2));
  return speeds[speeds.size() / 2];
}

void look_at_one_process(MergeStatus& status, const fs::path& partial) {
  status.state = MergeState::kOneProcess;
  if (fs::exists(partial / kManifestName)) {
    set_complete(status, read_manifest(partial / kManifestName));
    status.notes.push_back(
        "all files are there, and only get their name; any part, --finish or "
        "--resume does that");
    return;
  }
  Bytes done, open;
  if (fs::exists(partial / kJournalName)) {
    const SeenJournal journal = look_at_journal(partial / kJournalName);
    status.program = journal.program;
    done = shards_of(journal);
  }
  // Every shard that is not finished has taken its space under this name.
  constexpr std::string_view kOpen = ".safetensors.tmp";
  for (const std::string& name : names_ending(partial, kOpen)) {
    std::error_code error;
    const uint64_t bytes = fs::file_size(partial / (name + std::string(kOpen)), error);
    if (!error) open[name + ".safetensors"] = bytes;
  }
  for (const auto& [name, _] : done) open.erase(name);
  status.shards_done = done.size();
  status.shards = done.size() + open.size();
  status.bytes_done = total(done);
  status.bytes = status.bytes_done + total(open);
  if (!done.empty())
    status.written.push_back({"", "one process", 0, done.size(), status.bytes_done, {}});
  status.process = process_at(partial / kPartialMarker);
  const auto speed = speed_by_files(partial, done);
  if (!done.empty()) status.written[0].speed = speed;
  if (status.process) {
    status.speed = speed;
    if (speed) status.seconds_left = static_cast<double>(total(open)) / *speed;
  } else {
    for (const auto& [name, _] : open) status.free.push_back(name);
  }
}

constexpr std::string_view kPartial = ".partial";

// OUT.partial may get the name OUT meanwhile: then false.
bool look_at_partial(MergeStatus& status, const fs::path& partial, const WorkerPace& pace,
                     const std::function<void()>& tick) {
  const MergeStatus before = status;
  try {
    refuse_partial_of_others(partial);
    fs::exists(partial / kPartsFolder) ? look_at_workers(status, partial, pace, tick)
                                       : look_at_one_process(status, partial);
  } catch (const Error& e) {
    if (e.code() == ExitCode::kInterrupted || fs::exists(partial)) throw;
  } catch (const std::exception& e) {
    if (fs::exists(partial)) throw input_error("{}: {}", partial.string(), e.what());
  }
  if (fs::exists(partial)) return true;
  status = before;
  return false;
}

}  // namespace

MergeStatus merge_status(const fs::path& given, const WorkerPace& pace,
                         const std::function<void()>& tick) {
  std::string name = (given / "").parent_path().string();
  if (name.ends_with(kPartial)) name.resize(name.size() - kPartial.size());
  MergeStatus status;
  status.out = name;
  const fs::path partial = name + std::string(kPartial);
  if (fs::exists(name + ".refined.partial")) {
    status.notes.push_back(
        fmt::format("{}.refined.partial has layers that are refined before the merge", name));
  }
  std::error_code ignored;
  const bool begun = fs::exists(partial) && !fs::is_empty(partial, ignored);
  if (begun && look_at_partial(status, partial, pace, tick)) {
    if (fs::exists(status.out / kManifestName)) {
      status.notes.push_back(
          fmt::format("{} is there, of a merge before; this is about {}", name, partial.string()));
    }
    return status;
  }
  if (!fs::exists(status.out / kManifestName)) {
    if (!status.notes.empty())
      throw input_error("{}: no shard is written yet; {}", name, status.notes[0]);
    throw input_error("{}: no merge is there: neither {} with a manifest of lewis nor {}", name,
                      name, partial.string());
  }
  set_complete(status, read_manifest(status.out / kManifestName));
  verify_sizes(status.out);
  return status;
}

}  // namespace lewis
