// Merges in parts as their users run them: processes beside each other, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "run_lewis.h"
#include "scoped_env.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class PartsTest : public LewisTest {
 protected:
  PartsTest() {
    write_recipe("r.yml", "0.5");
    EXPECT_EQ(lewis("merge " + recipe("r.yml") + " " + out() + kOptions).code, 0);
    expected_ = result_of(out());
    EXPECT_GT(expected_.size(), 6u);
    fs::remove_all(out());
  }

  void write_recipe(const std::string& name, const std::string& density,
                    const std::string& more = "") const {
    std::ofstream(dir_.path / name)
        << "merge_method: ties\nbase_model: " LEWIS_TEST_DATA
           "/golden/merges/models/base\nmodels:\n- model: " LEWIS_TEST_DATA
           "/golden/merges/models/a\n  parameters: {weight: 1, density: "
        << density << "}\n"
        << more;
  }
  std::string recipe(const std::string& name) const { return (dir_.path / name).string(); }
  lewis::Run part(const std::string& which, const std::string& more = "") {
    return lewis("merge " + recipe("r.yml") + " " + out() + kOptions + " --part " + which + more);
  }
  void expect_complete() {
    EXPECT_EQ(result_of(out()), expected_);
    EXPECT_FALSE(fs::exists(out() + ".partial"));
    fs::remove_all(out());
  }
  void expect_refused(const lewis::Run& run, int code, const std::string& said) {
    EXPECT_EQ(run.code, code) << run.err;
    EXPECT_NE(run.err.find(said), std::string::npos) << run.err;
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
  }

  const std::string kOptions = " -q --out-shard-size 4K";
  std::map<std::string, std::string> expected_;
};

TEST_F(PartsTest, TheLastWorkerCompletes) {
  const lewis::Run first = part("1/2");
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_NE(first.out.find("part 1/2: "), std::string::npos) << first.out;
  EXPECT_NE(first.out.find("shards are not there yet"), std::string::npos) << first.out;
  EXPECT_FALSE(fs::exists(out()));
  const lewis::Run last = part("0/2");
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_NE(last.out.find("every hash was checked"), std::string::npos) << last.out;
  // The record of the run, which stands in OUT, counts what other workers wrote.
  const Json record = read_json(out() + "/lewis_run.json")["merge"];
  EXPECT_EQ(record["merged"].get<int>() + record["resumed"].get<int>(), 21);
  EXPECT_EQ(record["shards"], read_json(out() + "/lewis_manifest.json")["shards"].size());
  const lewis::Run again = part("0/2");
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_NE(again.out.find("is complete already"), std::string::npos) << again.out;
  const lewis::Run finish =
      lewis("merge " + recipe("r.yml") + " " + out() + kOptions + " --finish --force");
  EXPECT_EQ(finish.code, 0) << finish.err;
  EXPECT_NE(finish.out.find("is complete already"), std::string::npos) << finish.out;
  expect_complete();
}

TEST_F(PartsTest, ProcessesBesideEachOther) {
  for (const int count : {4, 8}) {
    std::vector<std::thread> workers;
    std::vector<lewis::Run> runs(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) {
      workers.emplace_back([&, i] {
        const fs::path scratch = dir_.path / ("worker" + std::to_string(i));
        fs::create_directories(scratch);
        runs[static_cast<size_t>(i)] =
            run_lewis(scratch, "merge " + recipe("r.yml") + " " + out() + kOptions + " --part " +
                                   std::to_string(i) + "/" + std::to_string(count));
      });
    }
    for (std::thread& worker : workers) worker.join();
    for (const lewis::Run& run : runs) EXPECT_EQ(run.code, 0) << run.err;
    expect_complete();
  }
}

TEST_F(PartsTest, AsATaskOfAnArray) {
  const ScopedEnv count("SLURM_ARRAY_TASK_COUNT", "2"), min("SLURM_ARRAY_TASK_MIN", "1"),
      max("SLURM_ARRAY_TASK_MAX", "2");
  for (const char* id : {"1", "2"}) {
    const ScopedEnv task("SLURM_ARRAY_TASK_ID", id);
    const lewis::Run run = part("auto", " --json");
    ASSERT_EQ(run.code, 0) << run.err;
    const Json json = parse_json(run.out, "stdout");
    EXPECT_EQ(json["complete"], *id == '2');
    EXPECT_EQ(json["shards_left"] == 0, *id == '2');
  }
  expect_complete();
}

TEST_F(PartsTest, WhatMakesNoSenseIsRefusedBeforeAnythingIsWritten) {
  expect_refused(part("2/2"), 2, "expected 0/2 to 1/2");
  expect_refused(part("1"), 2, "expected I/N");
  expect_refused(part("0/2", " --finish"), 2, "exclude each other");
  const std::string merge = "merge " + recipe("r.yml") + " " + out() + kOptions;
  expect_refused(lewis(merge + " --finish"), 2, "nothing to put together");
  EXPECT_FALSE(fs::exists(out() + ".partial"));
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(PartsTest, ARecipeThatRefines) {
  write_recipe("r.yml", "0.5",
               "lewis:\n  calibration:\n  - {model: " LEWIS_TEST_DATA
               "/golden/merges/models/a, data: " LEWIS_DEMO
               "/data/math_train.jsonl, format: gsm8k}\n  refine: {ridge: 1}\n");
  const lewis::Run run = part("0/2");
  EXPECT_EQ(run.code, 2) << run.err;
  EXPECT_NE(run.err.find("without --part"), std::string::npos) << run.err;
  EXPECT_FALSE(fs::exists(out() + ".partial"));
}

TEST_F(PartsTest, AnotherRecipeOnTheSameOut) {
  EXPECT_EQ(part("0/2").code, 0);
  write_recipe("r.yml", "0.25");
  expect_refused(part("1/2"), 2, "another merge");
  write_recipe("r.yml", "0.5");
  expect_refused(part("1/2", " --seed 5"), 2, "another merge");
  EXPECT_EQ(part("1/2").code, 0);
  write_recipe("r.yml", "0.25");
  expect_refused(part("1/2"), 2, "is of another merge");  // now by OUT
  expect_complete();
}

TEST_F(PartsTest, AChangedBitIsNamed) {
  EXPECT_EQ(part("0/2").code, 0);
  fs::path shard;
  for (const auto& entry : fs::directory_iterator(out() + ".partial")) {
    if (entry.path().extension() == ".safetensors") shard = entry.path();
  }
  ASSERT_FALSE(shard.empty());
  std::string bytes = file_text(shard);
  bytes[bytes.size() - 3] ^= 4;
  std::ofstream(shard, std::ios::binary) << bytes;
  expect_refused(part("1/2"), 5, shard.filename().string() + ": tensor ");
  EXPECT_FALSE(fs::exists(out()));
  const lewis::Run finish =
      lewis("merge " + recipe("r.yml") + " " + out() + kOptions + " --finish");
  expect_refused(finish, 2, "1 of ");
  EXPECT_EQ(part("1/2").code, 0);
  EXPECT_EQ(part("0/2").code, 0);
  expect_complete();
}

}  // namespace
}  // namespace lewis
