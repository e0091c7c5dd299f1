// The side of a ChildProcess that runs in the child, and what both sides say to each other.
#pragma once

#include <lewis_text.h>

#include <cstdint>

#include "text/child_process.h"

namespace lewis {

// Processor time that a child may have left over from earlier requests. With what the rest of a
// command takes, a file that wastes it all is refused within a second.
constexpr std::chrono::microseconds kSavedProcessor{500'000};

// How a child ends by itself that runs out of memory, and one that cannot open /dev/null.
constexpr int kExitOverLimit = LEWIS_EXIT_OVER_LIMIT, kExitNoMemory = LEWIS_EXIT_NO_MEMORY;
constexpr int kExitNoFiles = 79;

// What comes before the bytes of a request and of a reply.
struct RequestHeader {
  uint64_t size = 0;
  int64_t processor = 0;  // microseconds
  uint64_t memory = 0;
};
struct ReplyHeader {
  uint64_t size = 0;
  int64_t code = 0;  // an ExitCode; not 0: the bytes are the message of an Error
};

// Closes what it inherited, makes the answerer and answers until the other end is closed.
[[noreturn]] void run_child_side(int socket, const Allowance& begin,
                                 const std::function<Answer()>& make) noexcept;

}  // namespace lewis
