// SIGINT and SIGTERM as a request for an orderly end. Programs use this; the library catches no
// signal.
#pragma once

#include <atomic>

namespace lewis {

// From now on the first of these signals sets the flag and a second one ends the process at once.
// Call it before there are other threads. The flag must outlive the process's last thread.
void catch_interrupts(std::atomic<bool>& interrupted);

// Throws Error(kInterrupted) when the flag is set.
void check_interrupt(const std::atomic<bool>& interrupted);

}  // namespace lewis
