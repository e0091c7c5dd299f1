#include "base/threads.h"

#include <sched.h>

#include <utility>

namespace lewis {
namespace {

size_t usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<size_t>(CPU_COUNT(&set));
  const unsigned cores = std::thread::hardware_concurrency();
  return cores ? cores : 1;
}

}  // namespace

Threads::Threads(size_t count) {
  if (count == 0) count = usable_cores();
  for (size_t i = 1; i < count; ++i) workers_.emplace_back([this] { work(); });
}

Threads::~Threads() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : workers_) t.join();
}

void Threads::run(size_t n, const std::function<void(size_t)>& f) {
  if (n == 0) return;
  if (workers_.empty() || n == 1) {
    for (size_t i = 0; i < n; ++i) f(i);
    return;
  }
  std::unique_lock lock(mutex_);
  job_ = &f;
  next_ = 0;
  end_ = n;
  wake_.notify_all();
  take_pieces(lock);
  done_.wait(lock, [this] { return busy_ == 0; });
  job_ = nullptr;
  if (std::exception_ptr error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
}

// Takes pieces until none is left; the lock is held on entry and on return, but not while f runs.
void Threads::take_pieces(std::unique_lock<std::mutex>& lock) {
  while (next_ < end_) {
    const size_t piece = next_++;
    const auto& f = *job_;
    ++busy_;
    lock.unlock();
    std::exception_ptr error;
    try {
      f(piece);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    --busy_;
    if (error) {
      if (!error_) error_ = error;
      next_ = end_;  // the pieces not begun are dropped
    }
  }
  if (busy_ == 0) done_.notify_all();
}

void Threads::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || (job_ && next_ < end_); });
    if (stop_) return;
    take_pieces(lock);
  }
}

}  // namespace lewis
