// Who is at work in a folder that several processes share, on one machine or on many.
//
// A worker keeps one small file in the folder, TOKEN.worker, in which it counts up every few
// seconds. It claims a piece of work by a link NAME.claim whose target is its token. Claims save
// work and nothing else: two workers that do the same piece must do no harm. So nothing here relies
// on locks, on clocks that agree, or on a file system that shows a change at once.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace lewis {

struct WorkerPace {
  std::chrono::milliseconds beat{10'000};      // between two signs of life
  std::chrono::milliseconds patience{60'000};  // without one a worker elsewhere is taken for dead
};

// What a worker's file says.
struct WorkerState {
  std::string host, place;  // for people; the system that numbers its processes
  int64_t process = 0;
  uint64_t started = 0;  // the process, as the system counts
  std::string task;      // for people: "part 3/8"
  uint64_t beats = 0;
  double seconds = 0;  // that it has worked, by its own clock
  uint64_t bytes = 0;  // that it has written in this time
};
// Nothing where the file is missing or is no worker's.
std::optional<WorkerState> read_worker(const std::filesystem::path& folder,
                                       const std::string& token);

// "host node7, process 4711": a worker in a message.
std::string describe_worker(const std::filesystem::path& folder, const std::string& token);

// The workers that have a file in the folder and are not certainly gone: tokens, sorted. One is
// gone when its process on this machine is.
std::vector<std::string> workers_that_may_live(const std::filesystem::path& folder);

// Those of the workers that are alive. For workers on other machines it waits until they count up,
// at most pace.patience; `tick` is called meanwhile, and what it throws ends the wait.
std::set<std::string> living_workers(const std::filesystem::path& folder,
                                     const std::set<std::string>& tokens, const WorkerPace& pace,
                                     const std::function<void()>& tick);

// The names in a folder with this ending, without it, sorted. A folder that is missing has none.
std::vector<std::string> names_ending(const std::filesystem::path& folder, std::string_view ending);

class Worker {
 public:
  // The folder must exist. Error(kResource) when its file cannot be written.
  Worker(std::filesystem::path folder, std::string task, WorkerPace pace);
  // Removes its file, its claims and its temporary files.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  const std::string& token() const { return token_; }
  // A new name in the folder for something unfinished. No other worker uses it.
  std::filesystem::path temporary();
  // Writes a file so that readers see the whole of it or what was there before. On return it is on
  // the disk. Folders below the one that holds the file are not made.
  void put(const std::filesystem::path& file, std::string_view text);

  // Takes a piece of work that nobody has claimed, or one of `dead` has. False: it is another's.
  bool claim(const std::string& name, const std::set<std::string>& dead = {});
  std::optional<std::string> owner(const std::string& name) const;
  void release(const std::string& name);
  // living_workers() of its folder and pace.
  std::set<std::string> living(const std::set<std::string>& tokens,
                               const std::function<void()>& tick) const;
  // Tells those who look how much it has done (WorkerState::bytes). From any thread.
  void add_bytes(uint64_t bytes) { bytes_ += bytes; }
  WorkerState state() const;  // without its beats
  double lap();               // seconds since it began, or since the call before
  // Ends the signs of life, for whoever is about to remove the folder.
  void stop();

 private:
  void beat();
  void write_state();
  void remove_temporaries(const std::string& token) const;

  const std::filesystem::path folder_;
  const WorkerPace pace_;
  std::string token_;
  WorkerState state_;
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point lap_ = begun_;
  std::atomic<uint64_t> bytes_ = 0;
  std::set<std::string> claims_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool stopped_ = false;
  uint64_t temporaries_ = 0;
  std::vector<std::thread> threads_;  // one, which beats
};

}  // namespace lewis
