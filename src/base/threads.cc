#include "base/threads.h"

#include <sched.h>

#include <chrono>
#include <utility>

#include "base/error.h"
#include "base/start_thread.h"

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
  constexpr size_t kMost = 4096;
  const size_t cores = usable_cores();
  if (count == 0) count = cores;
  if (count > kMost) throw usage_error("{} threads: expected at most {}", count, kMost);
  spin_ = count <= cores;
  next_ = std::vector<Next>(count);
  start_threads(
      workers_, 1, count - 1, [this](size_t i) { work(i); }, [this] { stop(); });
}

Threads::~Threads() {
  stop();
  for (std::thread& t : workers_) t.join();
}

void Threads::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    ++changes_;
  }
  wake_.notify_all();
}

void Threads::run(size_t n, const std::function<void(size_t)>& f) {
  if (n == 0) return;
  if (workers_.empty() || n == 1) {
    for (size_t i = 0; i < n; ++i) f(i);
    return;
  }
  std::unique_lock lock(mutex_, std::defer_lock);
  acquire(lock);
  job_ = &f;
  end_ = n;
  for (size_t t = 0; t < count(); ++t) next_[t].piece = stripe_begin(t);
  ++changes_;
  wake_.notify_all();
  take_pieces(0, lock);
  await(lock, done_, [this] { return busy_ == 0; });
  job_ = nullptr;
  if (std::exception_ptr error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
}

// The lock is held for moments only: the system need not put anybody to sleep for it.
void Threads::acquire(std::unique_lock<std::mutex>& lock) const {
  for (int i = 0; spin_ && i < 1000; ++i) {
    if (lock.try_lock()) return;
    relax();
  }
  lock.lock();
}

// The pieces that a thread takes first: those next to each other, in loop after loop, so that what
// one loop left in a core's cache is there for the next.
size_t Threads::stripe_begin(size_t thread) const { return end_ * thread / count(); }

bool Threads::any_left() const {
  for (size_t t = 0; t < count(); ++t) {
    if (next_[t].piece < stripe_begin(t + 1)) return true;
  }
  return false;
}

// Takes pieces until none is left, those of the other threads last; the lock is held on entry and
// on return, but not in between.
void Threads::take_pieces(size_t thread, std::unique_lock<std::mutex>& lock) {
  const auto& f = *job_;
  ++busy_;
  lock.unlock();
  std::exception_ptr error;
  try {
    for (size_t i = 0; i < count(); ++i) {
      const size_t stripe = (thread + i) % count(), end = stripe_begin(stripe + 1);
      auto& next = next_[stripe].piece;
      for (size_t p; (p = next.fetch_add(1, std::memory_order_relaxed)) < end;) f(p);
    }
  } catch (...) {
    error = std::current_exception();
    for (size_t t = 0; t < count(); ++t) next_[t].piece = end_;  // what is not begun is dropped
  }
  acquire(lock);
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
    while (changes_.load(std::memory_order_relaxed) == seen && Clock::now() < end) relax();
    acquire(lock);
  }
  changed.wait(lock, ready);
}

void Threads::work(size_t thread) {
  std::unique_lock lock(mutex_);
  while (true) {
    await(lock, wake_, [this] { return stop_ || (job_ && any_left()); });
    if (stop_) return;
    take_pieces(thread, lock);
  }
}

}  // namespace lewis
