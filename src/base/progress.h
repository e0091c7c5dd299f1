// The way in which long work tells its caller how far it is. Nothing below cli/ prints.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace lewis {

struct Progress {
  std::string what;  // "calibrating math", "merging"
  std::string unit;  // "tokens", "bytes", "items"
  uint64_t done = 0;
  uint64_t total = 0;  // done == total: finished
};

// Called from the thread that called the long work, a few times a second at most where that is
// easy. It may throw (an interrupt): the work must unwind cleanly.
using ProgressFn = std::function<void(const Progress&)>;

}  // namespace lewis
