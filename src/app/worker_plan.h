// How a job is cut for several workers (docs/clusters.md): the parts of each step, their memory and
// their time, before any weight is read.
#pragma once

#include <lewis/lewis.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "recipe/recipe.h"

namespace lewis {

// One step of a job, which `parts` processes share.
struct WorkerStep {
  std::string name;  // "calibrate", "merge", "finish"
  uint64_t parts = 0;
  uint64_t memory = 0;         // bytes that the largest part needs
  uint64_t bytes_read = 0;     // by the largest part
  uint64_t bytes_written = 0;  // by the largest part
  double seconds = 0;          // of the largest part
  double seconds_alone = 0;    // of one process that does the whole step
};

struct WorkerPlan {
  uint64_t workers = 0;
  std::vector<WorkerStep> steps;  // one after the other
  size_t shards = 0;
  uint64_t bytes_written = 0;        // of the whole merge
  uint64_t shard_bytes_for_all = 0;  // where workers outnumber shards: what would give all work
  double read_speed = 0, write_speed = 0;  // bytes per second of one worker
  bool is_stated = false;                  // not measured
  double operations_per_second = 0;        // of one worker, measured; 0: nothing is calibrated
  size_t threads = 0;                      // of one worker
  std::vector<std::string> warnings;       // one line each
};

// `disk_speed`: bytes per second that a worker reads and writes; 0: it is measured here. Checks the
// recipe as `merge` does, and throws as it does. `job.out` may be empty where no OUT is known.
WorkerPlan plan_workers(const MergeJob& job, uint64_t workers, uint64_t disk_speed,
                        const RunContext& context);

// A file of weights that is on disk, if the recipe has one.
std::optional<std::filesystem::path> stored_weights(const Recipe& recipe);

}  // namespace lewis
