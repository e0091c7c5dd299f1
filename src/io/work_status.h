// How far work is that several workers share in a folder beside a merge's: an evaluation in parts
// (its --output-path) or a calibration in parts (the cache). It reads and changes nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/workers.h"

namespace lewis {

struct SharedWorker {
  std::string host, task;
  int64_t process = 0;
  bool alive = false;  // false: it is not certain that it is
  // Of an evaluation, where its journals say it: the items of its share that are not done, those of
  // its later tasks and models with them, and how many it finishes per second.
  std::optional<uint64_t> left;
  std::optional<double> speed;
};

// One task on one model, or one text and model of a calibration.
struct SharedWork {
  std::string name;             // "demo__models__math, gsm8k"
  size_t done = 0;              // items, or pieces
  std::optional<size_t> total;  // nothing where no worker has said it
};

struct WorkStatus {
  std::string kind, unit;  // "evaluation", "items"; "calibration", "pieces"
  std::vector<SharedWork> works;
  std::vector<SharedWorker> workers;
  // Of an evaluation: of all living workers together, and until the last of them is done. Nothing
  // where one of them has not said it yet. A part that nobody is at work on is not in it.
  std::optional<double> speed, seconds_left;
};

// Nothing where the folder holds neither. `pace`, `tick`: see living_workers().
std::optional<WorkStatus> work_status(const std::filesystem::path& folder, const WorkerPace& pace,
                                      const std::function<void()>& tick);

}  // namespace lewis
