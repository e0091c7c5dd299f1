// A process that works on a stranger's template or tokenizer for this one. Such a file is a
// program: it can loop, grow what it is given, and nest values until printing or freeing them
// overflows the stack. No check of the file finds all of that, but a process can be ended.
// docs/templates.md says what the limits are.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace lewis {

// What the work on one request may cost.
struct Allowance {
  std::chrono::microseconds processor{0};
  uint64_t memory = 0;  // bytes
};

// Answers requests; runs in the child. An Error that it throws is thrown by ask().
using Answer = std::function<std::string(std::string_view request)>;

// The child is a copy of this process with the calling thread alone. It has no open files, ends
// when this process ends, and leaves nothing behind. Movable; ask() may be called from any thread,
// and the child works on one request at a time.
class ChildProcess {
 public:
  struct Plan {
    std::string name;              // begins the messages: the file that the child works on
    Allowance begin;               // for `make`
    std::function<Answer()> make;  // runs in the child, once
  };
  // Returns when `make` has. Throws what it throws; Error(kInput) when it needs more than its
  // allowance and half a second beside it, or overflows its stack; Error(kResource) when there are
  // no processes, files or memory.
  explicit ChildProcess(Plan plan);

  // What the child answers. Throws as the constructor does; a child that did not keep its limits
  // has ended, and every later call throws the same error. Up to a second of processor time that
  // earlier requests have not used is added to the allowance.
  std::string ask(std::string_view request, Allowance allowance) const;

  // True when there is no child any more.
  bool has_ended() const;

 private:
  class Running;
  std::shared_ptr<Running> running_;
};

}  // namespace lewis
