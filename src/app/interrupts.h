// SIGINT, SIGTERM and SIGHUP as a request for an orderly end. Programs use this; the library
// catches no signal.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>

namespace lewis {

// The end of a process whose work has not noticed the flag in time.
struct LateEnd {
  std::chrono::milliseconds after;
  std::function<void()> end;  // runs on a thread of its own, beside the work; must not return
};

// From now on the first of these signals sets the flag and a second one ends the process at once.
// If the process still runs a while after the first, `late` ends it: what lies on disk is whole at
// any time. A SIGHUP that is ignored (nohup) stays so. Call it before there are other threads. The
// flag must outlive the process's last thread. Throws Error(kResource) when the system gives no
// thread.
void catch_interrupts(std::atomic<bool>& interrupted, LateEnd late = {});

// Throws Error(kInterrupted) when the flag is set.
void check_interrupt(const std::atomic<bool>& interrupted);

}  // namespace lewis
