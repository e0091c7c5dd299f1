// How far a merge is, by what lies in OUT and OUT.partial: for people and for scripts that watch a
// merge of one process, or of many workers (io/part_writer.h). It reads and changes nothing.
//
// Clocks are not compared with one another. Every worker counts its own seconds; of one process the
// times of its files are compared among themselves. Whether a worker on another machine is alive is
// seen by its counting up.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/enum_names.h"
#include "io/workers.h"

namespace lewis {

// A worker that has a file in OUT.partial.
struct WorkerStatus {
  std::string token, host, task;
  int64_t process = 0;
  bool alive = false;               // false: it is not certain that it is
  bool here = false;                // on this machine: then `alive` is certain
  std::vector<std::string> shards;  // that it has claimed and not finished
  uint64_t bytes_left = 0;          // of these
  std::optional<double> speed;      // bytes per second; nothing before it has written
  bool finishes = false;            // it puts the shares together
};

// Who has written finished shards.
struct WrittenBy {
  std::string host, task;  // "" and "one process": not by workers
  int64_t process = 0;
  size_t shards = 0;
  uint64_t bytes = 0;
  std::optional<double> speed;  // bytes per second
};

enum class MergeState {
  kComplete,    // OUT is there
  kWorkers,     // workers write OUT.partial, or did
  kOneProcess,  // one process does, or did
};
template <>
inline constexpr auto kEnumNames<MergeState> =
    std::to_array<EnumName<MergeState>>({{MergeState::kComplete, "complete"},
                                         {MergeState::kWorkers, "workers"},
                                         {MergeState::kOneProcess, "one process"}});

struct MergeStatus {
  std::filesystem::path out;
  MergeState state = MergeState::kComplete;
  std::string program;  // version and build of lewis that began it
  size_t shards = 0, shards_done = 0;
  uint64_t bytes = 0, bytes_done = 0;  // of the shards
  std::vector<WorkerStatus> workers;   // sorted by token
  std::vector<WrittenBy> written;      // by task, host, process
  std::vector<std::string> free;       // shards that are left and nobody alive has claimed
  std::optional<int64_t> process;      // of the one process that is at work on this machine
  std::optional<double> speed;         // bytes per second of all who are alive
  std::optional<double> seconds_left;  // of what is claimed, without the check of the hashes
  std::vector<std::string> notes;      // one line each
};

// `out` may be given with ".partial" at its end. `pace`: see living_workers(). Error(kInput): there
// is no merge. Error(kVerify): OUT is complete and its files have not the sizes of its manifest.
MergeStatus merge_status(const std::filesystem::path& out, const WorkerPace& pace,
                         const std::function<void()>& tick);

}  // namespace lewis
