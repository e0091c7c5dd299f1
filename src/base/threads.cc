#include "base/threads.h"

#include <sched.h>

#include <chrono>
#include <utility>

namespace lewis {
namespace {

size_t usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<size_t>(CPU_COUNT(&set));
  const unsigned cores = std::thread::hardware_concurrency();
  return cores ? cores : 1;
}

// To be asleep and woken takes some 50 us, more than most pieces of one token's layers do.
constexpr std::chrono::microseconds kSpin(50);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

Threads::Threads(size_t count) {
  const size_t cores = usable_cores();
  if (count == 0) count = cores;
  spin_ = count <= cores;
  for (size_t i = 1; i < count; ++i) workers_.emplace_back([this] { work(); });
}

Threads::~Threads() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    ++changes_;
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
  ++changes_;
  wake_.notify_all();
  take_pieces(lock);
  await(lock, done_, [this] { return busy_ == 0; });
  job_ = nullptr;
  if (std::exception_ptr error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
}

// Takes pieces until none is left; the lock is held on entry and on return, but not in between.
void Threads::take_pieces(std::unique_lock<std::mutex>& lock) {
  const auto& f = *job_;
  const size_t end = end_;
  ++busy_;
  lock.unlock();
  std::exception_ptr error;
  try {
    for (size_t piece; (piece = next_.fetch_add(1, std::memory_order_relaxed)) < end;) f(piece);
  } catch (...) {
    error = std::current_exception();
    next_ = end;  // the pieces not begun are dropped
  }
  lock.lock();
  if (error && !error_) error_ = error;
  if (--busy_ == 0) {
    ++changes_;
    done_.notify_all();
  }
}

template <typename F>
void Threads::await(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                    const F& ready) {
  using Clock = std::chrono::steady_clock;
  for (const auto end = Clock::now() + kSpin; spin_ && !ready() && Clock::now() < end;) {
    const uint64_t seen = changes_;
    lock.unlock();
    for (int i = 0; i < 64 && changes_.load(std::memory_order_relaxed) == seen; ++i) relax();
    lock.lock();
  }
  changed.wait(lock, ready);
}

void Threads::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    await(lock, wake_, [this] { return stop_ || (job_ && next_ < end_); });
    if (stop_) return;
    take_pieces(lock);
  }
}

}  // namespace lewis
