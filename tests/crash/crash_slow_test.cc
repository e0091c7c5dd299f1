// A merge that is stopped at every call that changes files, that is killed at random times, whose
// calls fail, whose disk loses power: OUT is absent or complete, sources are untouched, and a
// resumed or repeated run ends with the bytes of one that was left in peace.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include "base/error.h"
#include "io/manifest.h"
#include "programs.h"
#include "shimmed_program.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Snapshot = std::map<std::string, std::string>;

// With the address sanitizer a run of the program takes 0.2 s of processor time, so that one point
// in four is tried, and all tests take a minute; a defect ends the program with exit code 1.
const int kStep = sanitized() ? 4 : 1;

class Crash : public testing::Test {
 protected:
  Crash() {
    fs::copy(LEWIS_TEST_DATA "/golden/merges/models", models_, fs::copy_options::recursive);
    std::ofstream(dir_.path / "r.yml")
        << "merge_method: ties\nbase_model: models/base\nmodels:\n- model: models/a\n  parameters: "
           "{weight: 1, density: 0.5}\n"
           "- model: models/b\n  parameters: {weight: 1, density: 0.5}\n";
    EXPECT_EQ(run({}), 0);
    expected_ = result_of(out_);
    sources_ = snapshot(models_);
    EXPECT_GT(expected_.size(), 6u);  // several shards
    fs::remove_all(out_);
  }

  pid_t start(const std::vector<std::string>& settings, bool resume) const {
    std::vector<std::string> words = {
        "merge", (dir_.path / "r.yml").string(), out_.string(), "-q", "--out-shard-size", "12K"};
    if (resume) words.emplace_back("--resume");
    return start_shimmed(std::move(words), settings);
  }
  int run(const std::vector<std::string>& settings, bool resume = false) const {
    return wait_for(start(settings, resume));
  }

  long count_calls() {
    const long calls = calls_of(dir_.path, [&](const auto& settings) { return run(settings); });
    fs::remove_all(out_);
    return calls;
  }

  std::chrono::microseconds time_of_a_run() const {
    return quickest_of_three([&] { return run({}); }, out_);
  }

  void expect_absent_or_complete() const {
    if (fs::exists(out_)) {
      EXPECT_EQ(result_of(out_), expected_);
    }
    EXPECT_EQ(snapshot(models_), sources_);
  }

  // --resume, which begins anew where there is nothing to resume; the result is the expected one.
  void recover(bool resume = true) {
    if (!fs::exists(out_)) {
      EXPECT_EQ(run({}, resume), 0);
    }
    EXPECT_EQ(result_of(out_), expected_);
    fs::remove_all(out_);
    fs::remove_all(out_.string() + ".partial");
  }

  TempDir dir_;
  fs::path models_ = dir_.path / "models", out_ = dir_.path / "out";
  Snapshot expected_, sources_;
};

TEST_F(Crash, StoppedBeforeAndAfterEveryCall) {
  const long calls = count_calls();
  EXPECT_GT(calls, 50);
  for (long k = 1; k <= calls; k += kStep) {
    for (const char* after : {"0", "1"}) {
      EXPECT_EQ(run({"SHIM_KILL=" + std::to_string(k), std::string("SHIM_AFTER=") + after}),
                128 + SIGKILL);
      expect_absent_or_complete();
      recover();
      ASSERT_FALSE(HasFailure()) << "call " << k << " after " << after;
    }
  }
  std::printf("%ld calls, stopped before and after one in %d\n", calls, kStep);
}

TEST_F(Crash, StoppedWhileItResumes) {
  const long calls = count_calls();
  for (long k = 1; k <= calls; k += 3 * kStep) {
    run({"SHIM_KILL=" + std::to_string(calls * 2 / 3)});
    run({"SHIM_KILL=" + std::to_string(k)}, true);
    expect_absent_or_complete();
    recover();
    ASSERT_FALSE(HasFailure()) << "call " << k;
  }
}

TEST_F(Crash, KilledAtRandomTimes) {
  std::mt19937 random(4);
  int killed = 0;
  const int kRounds = 200 / kStep;
  const std::chrono::microseconds whole = time_of_a_run();
  std::uniform_int_distribution<int64_t> moment(0, whole.count());
  for (int round = 0; round < kRounds; ++round) {
    const pid_t pid = start({}, false);
    std::this_thread::sleep_for(std::chrono::microseconds(moment(random)));
    kill(pid, SIGKILL);
    killed += wait_for(pid) != 0;
    expect_absent_or_complete();
    if (round % 4 == 0 || fs::exists(out_)) recover();  // else the next run finds the leftovers
    ASSERT_FALSE(HasFailure()) << round;
  }
  EXPECT_GT(killed, kRounds / 4);
  std::printf("%d runs of %ld ms, %d of them killed\n", kRounds, whole.count() / 1000, killed);
}

TEST_F(Crash, FailingCalls) {
  const long calls = count_calls();
  for (long k = 1; k <= calls; k += 2 * kStep - 1) {
    for (const int error : {EIO, ENOSPC, EINTR}) {
      for (const char* forever : {"0", "1"}) {
        if (error == EINTR && *forever == '1') continue;  // a call that never succeeds nor fails
        const int code = run({"SHIM_FAIL=" + std::to_string(k) + ":" + std::to_string(error),
                              std::string("SHIM_FOREVER=") + forever});
        expect_absent_or_complete();
        EXPECT_LT(code, 6) << "no crash";
        EXPECT_NE(code, 1) << "no defect";
        if (code == 0) {
          EXPECT_TRUE(fs::exists(out_));
        }
        recover(false);
        ASSERT_FALSE(HasFailure()) << "call " << k << " error " << error << " forever " << forever;
      }
    }
    EXPECT_EQ(run({"SHIM_SHORT=" + std::to_string(k)}), 0);  // short writes are completed
    recover();
    ASSERT_FALSE(HasFailure()) << "call " << k << " short";
  }
}

// ---- power cuts ----

struct Operation {
  std::string what, path, other;  // other: the target of a rename
  uint64_t offset = 0;
  std::string data;
};

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; text != "-" && i + 1 < text.size(); i += 2)
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

std::vector<Operation> read_log(const fs::path& file) {
  std::vector<Operation> operations;
  std::istringstream lines(file_text(file));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    Operation o;
    words >> o.what >> o.path;
    if (o.what == "rename") words >> o.other;
    if (o.what == "write" || o.what == "allocate") words >> o.offset;
    if (o.what == "write" || o.what == "append") {
      std::string hex;
      words >> hex;
      o.data = from_hex(hex);
    }
    operations.push_back(o);
  }
  return operations;
}

// The possible contents of a disk after a power cut behind the first `cut` operations: synced data
// is there; writes that were not synced are there, are not, or are there in part, each for itself;
// entries of folders that were not synced are there up to some operation.
class Disk {
 public:
  Disk(const std::vector<Operation>& operations, size_t cut, std::mt19937& random) {
    // Names first: how far each folder's entries got.
    std::map<std::string, size_t> synced;  // folder -> operations that are safe
    for (size_t i = 0; i < cut; ++i) {
      if (operations[i].what == "sync") synced[operations[i].path] = i;
    }
    const auto reaches = [&](size_t i, const std::string& folder) {
      const auto safe = synced.find(folder);
      if (safe != synced.end() && i < safe->second) return true;
      const auto [it, fresh] = lost_.try_emplace(folder, 0);
      if (fresh)
        it->second = cut - random() % (cut - (safe == synced.end() ? 0 : safe->second) + 1);
      return i < it->second;
    };
    for (size_t i = 0; i < cut; ++i) {
      const Operation& o = operations[i];
      if (o.what == "sync" && files_.contains(o.path)) files_[o.path].apply_all();
      if (o.what == "write" || o.what == "append" || o.what == "allocate")
        files_[o.path].pending.push_back(o);
      if (!reaches(i, fs::path(o.path).parent_path().string())) {
        if (o.what == "create")
          files_[o.path] = {};  // the file is there for its writes, but has no name
        continue;
      }
      apply_name(o);
    }
    for (auto& [_, file] : files_) file.apply_some(random);
  }

  void write_to(const std::string& from, const fs::path& to) const {
    for (const std::string& folder : folders_) fs::create_directories(moved(folder, from, to));
    for (const auto& [path, file] : files_) {
      if (!file.named) continue;
      const fs::path target = moved(path, from, to);
      if (!fs::exists(target.parent_path())) continue;
      std::ofstream(target, std::ios::binary) << file.content;
    }
  }

 private:
  struct Content {
    std::string content;
    std::vector<Operation> pending;
    bool named = false;

    void put(const Operation& o, size_t n) {
      const uint64_t at = o.what == "append" ? content.size() : o.offset;
      const uint64_t end = o.what == "allocate" ? o.offset : at + n;
      if (content.size() < end) content.resize(end);
      if (o.what != "allocate") content.replace(at, n, o.data, 0, n);
    }
    void apply_all() {
      for (const Operation& o : pending) put(o, o.data.size());
      pending.clear();
    }
    void apply_some(std::mt19937& random) {
      for (const Operation& o : pending) {
        const uint64_t luck = random() % 3;
        if (luck > 0)
          put(o, luck == 1 && o.what != "append" ? random() % (o.data.size() + 1) : o.data.size());
      }
      pending.clear();
    }
  };

  void apply_name(const Operation& o) {
    if (o.what == "mkdir") folders_.insert(o.path);
    if (o.what == "create") {
      files_[o.path] = {};
      files_[o.path].named = true;
    }
    if (o.what == "open") files_[o.path].named = true;
    if (o.what == "remove") {
      files_.erase(o.path);
      folders_.erase(o.path);
    }
    if (o.what == "rename") {
      if (folders_.contains(o.path)) return rename_folder(o.path, o.other);
      files_[o.other] = files_[o.path];
      files_.erase(o.path);
    }
  }

  void rename_folder(const std::string& from, const std::string& to) {
    folders_.erase(from);
    folders_.insert(to);
    std::map<std::string, Content> moved_files;
    for (auto& [path, file] : files_) {
      moved_files[path.starts_with(from + "/") ? to + path.substr(from.size()) : path] = file;
    }
    files_ = std::move(moved_files);
  }

  static fs::path moved(const std::string& path, const std::string& from, const fs::path& to) {
    return path.starts_with(from) ? fs::path(to.string() + path.substr(from.size()))
                                  : fs::path(path);
  }

  std::map<std::string, size_t> lost_;
  std::map<std::string, Content> files_;
  std::set<std::string> folders_;
};

TEST_F(Crash, PowerCuts) {
  const fs::path log = dir_.path / "log";
  EXPECT_EQ(run({"SHIM_LOG=" + log.string()}), 0);
  fs::remove_all(out_);
  const std::vector<Operation> operations = read_log(log);
  std::mt19937 random(5);
  int complete = 0;
  const int kStates = 1000 / kStep;
  for (int state = 0; state < kStates; ++state) {
    const size_t cut =
        state % 3 == 0 ? operations.size() - random() % 12 : 1 + random() % operations.size();
    Disk(operations, std::min(cut, operations.size()), random)
        .write_to(dir_.path.string(), dir_.path);
    expect_absent_or_complete();
    complete += fs::exists(out_);
    if (state % 10 == 0) {
      recover();
    } else {
      fs::remove_all(out_);
      fs::remove_all(out_.string() + ".partial");
    }
    ASSERT_FALSE(HasFailure()) << "state " << state << ", cut after " << cut << " of "
                               << operations.size();
  }
  EXPECT_GT(complete, kStep == 1 ? 20 : 0);
  EXPECT_LT(complete, kStates * 9 / 10);
  std::printf("%d power cuts, OUT complete after %d, absent after the others\n", kStates, complete);
}

}  // namespace
}  // namespace lewis
