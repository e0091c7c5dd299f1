// Four workers of one merge that are killed at random moments, at every call that changes files,
// and while two put the shares together: the runs that follow end with the bytes of one process,
// and a shard that was recorded is never written again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "programs.h"
#include "shimmed_program.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Snapshot = std::map<std::string, std::string>;

const int kKills = sanitized() ? 40 : 200, kStep = sanitized() ? 12 : 3;
constexpr int kWorkers = 4;

class CrashParts : public testing::Test {
 protected:
  CrashParts() {
    fs::copy(LEWIS_TEST_DATA "/golden/merges/models", dir_.path / "models",
             fs::copy_options::recursive);
    std::ofstream(dir_.path / "r.yml")
        << "merge_method: ties\nbase_model: models/base\nmodels:\n- model: models/a\n  parameters: "
           "{weight: 1, density: 0.5}\n"
           "- model: models/b\n  parameters: {weight: 1, density: 0.5}\n";
    EXPECT_EQ(wait_for(start({})), 0);
    expected_ = result();
    EXPECT_GT(expected_.size(), 8u);
    fs::remove_all(out_);
  }

  pid_t start(const std::vector<std::string>& more,
              const std::vector<std::string>& settings = {}) const {
    std::vector<std::string> words = {"merge",
                                      (dir_.path / "r.yml").string(),
                                      out_.string(),
                                      "-q",
                                      "--out-shard-size",
                                      "4K",
                                      "--threads",
                                      "1"};
    words.insert(words.end(), more.begin(), more.end());
    return start_shimmed(std::move(words), settings);
  }
  static std::vector<std::string> part(int index, int count = kWorkers) {
    return {"--part", std::to_string(index) + "/" + std::to_string(count)};
  }
  // Without what a worker that came while OUT got its name may have left.
  Snapshot result() const {
    Snapshot files = result_of(out_);
    std::erase_if(files, [](const auto& file) { return file.first.starts_with(".lewis-"); });
    return files;
  }
  // The finished shards by name, with the time when each was written.
  std::map<std::string, fs::file_time_type> finished() const {
    std::map<std::string, fs::file_time_type> times;
    std::error_code error;
    for (fs::directory_iterator it(partial_ / ".lewis-parts", error), end; !error && it != end;
         it.increment(error)) {
      const std::string name = it->path().stem();
      if (it->path().extension() == ".record")
        times[name] = fs::last_write_time(partial_ / name, error);
    }
    return times;
  }
  void expect_kept(const std::map<std::string, fs::file_time_type>& before) const {
    const fs::path folder = fs::exists(out_) ? out_ : partial_;
    for (const auto& [name, time] : before) {
      std::error_code error;
      EXPECT_EQ(fs::last_write_time(folder / name, error), time) << name << " was written again";
    }
  }
  // All parts once more, of another number each time.
  void recover(int count) {
    for (int i = 0; i < count; ++i) EXPECT_EQ(wait_for(start(part(i, count))), 0) << i;
    EXPECT_EQ(result(), expected_);
    EXPECT_FALSE(fs::exists(partial_));
    fs::remove_all(out_);
  }
  std::chrono::microseconds time_of_a_run() const {
    return quickest_of_three([&] { return wait_for(start(part(0, 1))); }, out_);
  }
  long calls_of_a_part() const {
    return calls_of(dir_.path,
                    [&](const auto& settings) { return wait_for(start(part(0, 2), settings)); });
  }

  TempDir dir_;
  fs::path out_ = dir_.path / "out", partial_ = dir_.path / "out.partial";
  Snapshot expected_;
};

TEST_F(CrashParts, KilledAtRandomTimes) {
  std::mt19937 random(8);
  std::uniform_int_distribution<int64_t> moment(0, time_of_a_run().count());
  int killed = 0, completed = 0, round = 0;
  for (; killed < kKills && round < kKills; ++round) {
    const auto before = finished();
    std::vector<std::thread> workers;
    std::vector<int> codes(kWorkers);
    for (int i = 0; i < kWorkers; ++i) {
      const std::chrono::microseconds life(moment(random));
      workers.emplace_back([&, i, life] {
        const pid_t pid = start(part(i));
        std::this_thread::sleep_for(life);
        kill(pid, SIGKILL);
        codes[static_cast<size_t>(i)] = wait_for(pid);
      });
    }
    for (std::thread& worker : workers) worker.join();
    for (const int code : codes) {
      EXPECT_TRUE(code == 0 || code == 128 + SIGKILL) << code;
      killed += code != 0;
    }
    expect_kept(before);
    if (fs::exists(out_)) {
      ++completed;
      EXPECT_EQ(result(), expected_);
      fs::remove_all(out_);
    } else if (round % 5 == 4) {
      recover(1 + round % 4);
    }
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
  recover(3);
  EXPECT_GE(killed, kKills);
  std::printf("%d workers, %d of them killed; OUT completed in %d of %d rounds\n", round * kWorkers,
              killed, completed, round);
}

// The only worker that is left stops before and after each call, among them those that put the
// shares together.
TEST_F(CrashParts, StoppedBeforeAndAfterEveryCall) {
  EXPECT_EQ(wait_for(start(part(1, 2))), 0);
  fs::copy(partial_, dir_.path / "half", fs::copy_options::recursive);
  const long calls = calls_of_a_part();
  fs::remove_all(out_);
  EXPECT_GT(calls, 60);
  for (long k = 1; k <= calls; k += kStep) {
    for (const char* after : {"0", "1"}) {
      fs::copy(dir_.path / "half", partial_, fs::copy_options::recursive);
      wait_for(start(part(0, 2),
                     {"SHIM_KILL=" + std::to_string(k), std::string("SHIM_AFTER=") + after}));
      if (fs::exists(out_)) {
        EXPECT_EQ(result(), expected_);
        EXPECT_EQ(wait_for(start({"--finish"})), 0);
        fs::remove_all(out_);
        fs::remove_all(partial_);
      } else {
        EXPECT_EQ(wait_for(start(part(0, 2))), 0);
        EXPECT_EQ(result(), expected_);
        fs::remove_all(out_);
      }
      ASSERT_FALSE(HasFailure()) << "call " << k << " after " << after;
    }
  }
  std::printf("%ld calls, stopped before and after one in %d\n", calls, kStep);
}

TEST_F(CrashParts, AFullDiskOnOneWorker) {
  const long calls = calls_of_a_part();
  fs::remove_all(partial_);
  EXPECT_EQ(wait_for(start(part(1, 2))), 0);
  const auto of_the_other = finished();
  for (long k = 1; k <= calls; k += kStep) {
    for (const char* forever : {"0", "1"}) {
      const int code = wait_for(
          start(part(0, 2), {"SHIM_FAIL=" + std::to_string(k) + ":" + std::to_string(ENOSPC),
                             std::string("SHIM_FOREVER=") + forever}));
      EXPECT_TRUE(code == 0 || code == 4) << code;
      if (code != 0) expect_kept(of_the_other);
      if (fs::exists(out_)) break;
    }
    ASSERT_FALSE(HasFailure()) << "call " << k;
    if (fs::exists(out_)) break;
  }
  if (!fs::exists(out_)) {
    EXPECT_EQ(wait_for(start(part(0, 2))), 0);
  }
  EXPECT_EQ(result(), expected_);
}

}  // namespace
}  // namespace lewis
