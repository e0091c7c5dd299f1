// A pool of worker threads for loops over independent pieces.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace lewis {

// Results must not depend on the number of threads: a piece is defined by its index alone, and
// whoever combines pieces does so in the order of their indices.
class Threads {
 public:
  // count 0 means one per core that this process may use. Throws Error(kUsage) for more than 4096
  // and Error(kResource) when the system does not give as many.
  explicit Threads(size_t count = 0);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  size_t count() const { return workers_.size() + 1; }

  // Calls f(0) ... f(n - 1), each once, on all threads (the caller's too); returns when all are
  // done. The first exception is thrown again here, after the others have stopped. Loops do not
  // nest: f must not call run on the same pool.
  void run(size_t n, const std::function<void(size_t)>& f);

 private:
  // On a cache line of its own: threads count up their own most of the time.
  struct alignas(64) Next {
    std::atomic<size_t> piece = 0;
  };

  size_t stripe_begin(size_t thread) const;
  bool any_left() const;
  void work(size_t thread);
  void stop();
  void acquire(std::unique_lock<std::mutex>& lock) const;
  void take_pieces(size_t thread, std::unique_lock<std::mutex>& lock);
  // Waits for what the lock guards: first awake, for the time that a sleeper takes to come back.
  template <typename F>
  void await(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, const F& ready);

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(size_t)>* job_ = nullptr;
  size_t end_ = 0, busy_ = 0;          // pieces, threads that take some
  std::vector<Next> next_;             // of each thread's stripe
  std::atomic<uint64_t> changes_ = 0;  // counts what waiters wait for
  bool spin_;                          // every thread has a core of its own
  std::exception_ptr error_;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace lewis
