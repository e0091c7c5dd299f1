#include "app/interrupts.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/start_thread.h"

namespace lewis {
namespace {

constexpr int kNone = -1;

// The next of the signals; kNone if the time is over before. Without a limit it waits.
int next_signal(const sigset_t& signals, std::optional<std::chrono::milliseconds> limit) {
  if (!limit) {
    int number = 0;
    return sigwait(&signals, &number) == 0 ? number : kNone;
  }
  const auto end = std::chrono::steady_clock::now() + *limit;
  while (true) {
    const auto left = std::max(std::chrono::nanoseconds(0),
                               std::chrono::nanoseconds(end - std::chrono::steady_clock::now()));
    const timespec time = {left.count() / 1'000'000'000, left.count() % 1'000'000'000};
    const int number = sigtimedwait(&signals, nullptr, &time);
    if (number >= 0 || errno != EINTR) return number;
  }
}

// The second signal ends the process as if it had never been caught.
void end_by(int number, const sigset_t& signals) {
  std::signal(number, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  std::raise(number);
}

void await_signals(const sigset_t& signals, std::atomic<bool>* interrupted, const LateEnd& late) {
  next_signal(signals, {});
  interrupted->exchange(true);
  if (late.end) {
    const int second = next_signal(signals, late.after);
    second == kNone ? late.end() : end_by(second, signals);
  }
  while (true) end_by(next_signal(signals, {}), signals);
}

}  // namespace

// A thread takes the signals, not a handler: oneDNN's sgemm points the stack into a buffer of its
// own, which has no room for the frame that the system writes before it calls a handler.
void catch_interrupts(std::atomic<bool>& interrupted, LateEnd late) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  struct sigaction hangup = {};
  if (sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
    sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // later threads inherit the mask
  std::vector<std::thread> watcher;
  start_threads(
      watcher, 0, 1,
      [signals, &interrupted, late = std::move(late)](size_t) {
        await_signals(signals, &interrupted, late);
      },
      [] {});
  watcher[0].detach();
}

void check_interrupt(const std::atomic<bool>& interrupted) {
  if (interrupted) throw Error(ExitCode::kInterrupted, "interrupted");
}

}  // namespace lewis
