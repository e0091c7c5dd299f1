// How a verb runs: its threads, and what it tells its caller meanwhile.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <string>

#include <lewis/progress.h>

namespace lewis {

// A line for people.
struct Notice {
  bool warning = false;  // else it is only for information
  std::string text;
};

struct RunContext {
  size_t threads = 0;                           // 0: one per core
  ProgressFn progress{};                        // may be empty
  std::function<void(const Notice&)> notice{};  // called as soon as a notice is known; may be empty
  // A flag that the caller owns and may set from any thread or signal handler: the work then ends
  // within a second or so with Error(kInterrupted), and leaves on disk what resuming needs.
  const std::atomic<bool>* interrupted = nullptr;
};

}  // namespace lewis
