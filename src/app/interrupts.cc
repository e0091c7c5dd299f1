#include "app/interrupts.h"

#include <csignal>
#include <thread>

#include "base/error.h"

namespace lewis {
namespace {

// The second signal ends the process as if it had never been caught.
void await_signals(sigset_t signals, std::atomic<bool>* interrupted) {
  for (int number = 0; sigwait(&signals, &number) == 0;) {
    if (interrupted->exchange(true)) {
      std::signal(number, SIG_DFL);
      pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
      std::raise(number);
    }
  }
}

}  // namespace

// A thread takes the signals, not a handler: oneDNN's sgemm points the stack into a buffer of its
// own, which has no room for the frame that the system writes before it calls a handler.
void catch_interrupts(std::atomic<bool>& interrupted) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // later threads inherit the mask
  std::thread(await_signals, signals, &interrupted).detach();
}

void check_interrupt(const std::atomic<bool>& interrupted) {
  if (interrupted) throw Error(ExitCode::kInterrupted, "interrupted");
}

}  // namespace lewis
