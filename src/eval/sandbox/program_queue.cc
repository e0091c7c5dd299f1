#include "eval/sandbox/program_queue.h"

#include <utility>

#include "base/start_thread.h"

namespace lewis {

ProgramQueue::ProgramQueue(const Sandbox& sandbox, size_t threads) : sandbox_(sandbox) {
  start_threads(
      workers_, 0, threads, [this](size_t) { work(); }, [this] { stop(); });
}

ProgramQueue::~ProgramQueue() {
  stop();
  for (std::thread& worker : workers_) worker.join();
}

void ProgramQueue::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
}

void ProgramQueue::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    ProgramCase run = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      ProgramResult result = sandbox_.run(run.program, run.tests);
      lock.lock();
      finished_.push_back({std::move(run), std::move(result)});
    } catch (...) {
      error = std::current_exception();
      if (!lock.owns_lock()) lock.lock();
    }
    if (error) error_ = error;
    --open_;
    changed_.notify_all();
  }
}

void ProgramQueue::add(ProgramCase next) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(next));
    ++open_;
  }
  changed_.notify_all();
}

void ProgramQueue::take_finished(const DoneFn& done) {
  std::vector<Finished> finished;
  {
    const std::lock_guard lock(mutex_);
    if (error_) std::rethrow_exception(error_);
    finished.swap(finished_);
  }
  for (const Finished& f : finished) done(f.run, f.result);
}

void ProgramQueue::finish(const DoneFn& done) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_ == 0 || error_; });
  }
  take_finished(done);
}

}  // namespace lewis
