// A recipe with outputs that is stopped at every call that changes files: each output is absent or
// complete, and the run that goes on ends with the bytes of one that was left in peace.
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "programs.h"
#include "shimmed_program.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Snapshot = std::map<std::string, std::string>;

const int kStep = sanitized() ? 8 : 2;

class CrashOutputs : public testing::Test {
 protected:
  CrashOutputs() {
    fs::copy(LEWIS_TEST_DATA "/golden/merges/models", models_, fs::copy_options::recursive);
    std::ofstream(dir_.path / "r.yml")
        << "merge_method: linear\nmodels:\n- model: models/base\n- model: models/a\n- model: "
           "models/b\noutputs:\n- {name: mean, average: uniform}\n- {name: ema, average: ema, "
           "alpha: 0.5}\n- {name: b, weights: [0, 0, 1]}\n";
    EXPECT_EQ(run({}), 0);
    expected_ = result_of(out_);
    sources_ = snapshot(models_);
    EXPECT_GT(expected_.size(), 12u);
    fs::remove_all(out_);
  }

  int run(const std::vector<std::string>& settings, bool resume = false) const {
    std::vector<std::string> words = {
        "merge", (dir_.path / "r.yml").string(), out_.string(), "-q", "--out-shard-size", "24K"};
    if (resume) words.emplace_back("--resume");
    return wait_for(start_shimmed(std::move(words), settings));
  }
  void expect_absent_or_complete() const {
    EXPECT_EQ(snapshot(models_), sources_);
    if (!fs::exists(out_)) return;
    const Snapshot files = result_of(out_);
    for (const auto& [name, hash] : expected_) {
      const std::string folder = name.substr(0, name.find('/'));
      if (fs::exists(out_ / folder)) {
        EXPECT_TRUE(files.contains(name) && files.at(name) == hash) << name;
      }
    }
  }

  TempDir dir_;
  fs::path models_ = dir_.path / "models", out_ = dir_.path / "out";
  Snapshot expected_, sources_;
};

TEST_F(CrashOutputs, StoppedBeforeAndAfterEveryCall) {
  const long calls = calls_of(dir_.path, [&](const auto& settings) { return run(settings); });
  fs::remove_all(out_);
  EXPECT_GT(calls, 100);
  for (long k = 1; k <= calls; k += kStep) {
    for (const char* after : {"0", "1"}) {
      EXPECT_EQ(run({"SHIM_KILL=" + std::to_string(k), std::string("SHIM_AFTER=") + after}),
                128 + SIGKILL);
      expect_absent_or_complete();
      EXPECT_EQ(run({}, true), 0);
      EXPECT_EQ(result_of(out_), expected_);
      fs::remove_all(out_);
      ASSERT_FALSE(HasFailure()) << "call " << k << " after " << after;
    }
  }
  std::printf("%ld calls, stopped before and after one in %d\n", calls, kStep);
}

}  // namespace
}  // namespace lewis
