// Programs that run in a sandbox while the model goes on generating.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "eval/sandbox/sandbox.h"

namespace lewis {

struct ProgramCase {
  size_t item = 0;
  std::string text;            // what the model wrote
  std::string program, tests;  // what is run
};

class ProgramQueue {
 public:
  // The sandbox must outlive this.
  ProgramQueue(const Sandbox& sandbox, size_t threads);
  ~ProgramQueue();  // programs that have not begun are forgotten
  ProgramQueue(const ProgramQueue&) = delete;
  ProgramQueue& operator=(const ProgramQueue&) = delete;

  using DoneFn = std::function<void(const ProgramCase&, const ProgramResult&)>;
  void add(ProgramCase next);
  // Gives the finished programs to `done`, on the caller's thread, and throws the error of a run.
  void take_finished(const DoneFn& done);
  // Waits for all programs, and gives them to `done`.
  void finish(const DoneFn& done);

 private:
  void work();
  void stop();

  struct Finished {
    ProgramCase run;
    ProgramResult result;
  };
  const Sandbox& sandbox_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ProgramCase> waiting_;
  std::vector<Finished> finished_;
  std::exception_ptr error_;
  size_t open_ = 0;  // programs that were added and are not finished
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace lewis
