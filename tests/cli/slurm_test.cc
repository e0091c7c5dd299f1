// lewis slurm, lewis status and lewis plan --workers without a cluster: sbatch is a script here
// that runs every task at once. tools/check_slurm.sh has the real Slurm.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "run_lewis.h"
#include "scoped_env.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Prints a job's number, writes its options into LOG, and runs its tasks.
constexpr const char* kSbatch = R"sh(#!/bin/bash
set -eu
here=$(dirname "$0")
job=$(($(cat "$here/number" 2>/dev/null || echo 0) + 1))
echo "$job" > "$here/number"
array="" log=""
for word; do printf '%s\n' "$word" >> "$here/log"; done
while [[ $1 == --* ]]; do
  case $1 in --array=0-*) array=${1#--array=0-} ;; --output=*) log=${1#--output=} ;; esac
  shift
done
log=${log//%A/$job}
if [ -z "$array" ]; then
  SLURM_JOB_ID=$job SLURM_NTASKS=1 SLURM_PROCID=0 bash "$@" > "$log" 2>&1
else
  for ((i = array; i >= 0; --i)); do
    SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=$((array + 1)) SLURM_ARRAY_TASK_MIN=0 \
      SLURM_ARRAY_TASK_MAX=$array bash "$@" > "${log//%a/$i}" 2>&1
  done
fi
echo "$job;cluster"
)sh";

class SlurmTest : public LewisTest {
 protected:
  SlurmTest() {
    write_recipe("");
    const fs::path bin = dir_.path / "bin";
    fs::create_directories(bin);
    std::ofstream(bin / "sbatch") << kSbatch;
    fs::permissions(bin / "sbatch", fs::perms::owner_all);
  }

  void write_recipe(const std::string& more) const {
    std::ofstream(recipe_path()) << "merge_method: ties\nbase_model: " LEWIS_DEMO
                                    "/models/base\nmodels:\n- {model: " LEWIS_DEMO
                                    "/models/math, parameters: {weight: 1, density: 0.5}}\n"
                                 << more;
  }
  fs::path recipe_path() const { return dir_.path / "it's a recipe.yml"; }
  static std::string quoted(const std::string& text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
  }
  std::string recipe() const { return quoted(recipe_path().string()); }
  std::string folder() const { return (dir_.path / "a $place").string(); }
  std::string slurm(const std::string& more) const {
    return "slurm " + recipe() + " " + quoted(folder() + "/out") +
           " --out-shard-size 400K -q --cache " + quoted(folder() + "/cache") + " " + more;
  }
  std::string path_with_sbatch() const {
    return (dir_.path / "bin").string() + ":" + getenv("PATH");
  }

  const std::string kGuided =
      "lewis:\n  calibration:\n  - {model: " LEWIS_DEMO "/models/math, data: " LEWIS_DEMO
      "/data/math_train.jsonl, format: gsm8k, samples: 3}\n";
};

TEST_F(SlurmTest, TheJobsMakeTheBytesOfOneProcess) {
  write_recipe(kGuided);
  fs::create_directories(folder());
  const std::string alone = quoted(dir_.path.string() + "/alone/out");
  ASSERT_EQ(lewis("merge " + recipe() + " " + alone + " --out-shard-size 400K -q").code, 0);
  const ScopedEnv path("PATH", path_with_sbatch().c_str());
  std::ofstream(dir_.path / "test.jsonl")
      << "{\"question\": \"What is 1 + 1?\", \"answer\": \"#### 2\"}\n";
  const lewis::Run run =
      lewis(slurm("--nodes 3 --partition cpu --cpus 1 --submit --eval-task loss:" +
                  (dir_.path / "test.jsonl").string() + ":gsm8k"));
  ASSERT_EQ(run.code, 0) << run.err << run.out;
  EXPECT_NE(run.out.find("merge: job 3\n"), std::string::npos) << run.out;
  EXPECT_EQ(result_of(folder() + "/out"), result_of(dir_.path / "alone/out"));
  EXPECT_TRUE(fs::exists(folder() + "/out.plan.yml"));
  EXPECT_FALSE(fs::exists(folder() + "/out.partial"));
  for (const char* log : {"calibrate-1_0", "calibrate-1_2", "plan-2", "merge-3_1", "finish-4",
                          "eval-5_0", "eval-5_2", "results-6"}) {
    EXPECT_TRUE(fs::exists(folder() + "/out.logs/" + log + ".log")) << log;
  }
  const std::string log = file_text(dir_.path / "bin/log");
  for (const char* option :
       {"--array=0-2\n", "--requeue\n", "--partition=cpu\n", "--dependency=afterok:1\n",
        "--dependency=afterok:2\n", "--dependency=afterany:3\n", "--dependency=afterok:4\n",
        "--dependency=afterok:5\n", "--cpus-per-task=1\n", "--mem=", "--time="})
    EXPECT_NE(log.find(option), std::string::npos) << option << log;
  size_t results = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder() + "/out.eval"))
    results += entry.path().filename().string().starts_with("results_") ? 1 : 0;
  EXPECT_EQ(results, 1u);
  const lewis::Run evaluated = lewis("status " + quoted(folder() + "/out.eval"));
  EXPECT_NE(evaluated.out.find("1 of 1 items done"), std::string::npos) << evaluated.out;
  // Submitted again, everything is there already.
  const lewis::Run again = lewis("status " + quoted(folder() + "/out"));
  EXPECT_NE(again.out.find(": complete: "), std::string::npos) << again.out;
}

TEST_F(SlurmTest, TheScriptCanBeReadFirst) {
  fs::create_directories(folder());
  const lewis::Run run = lewis(slurm("--nodes 2 --account lab --sbatch=--qos=low"));
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_FALSE(fs::exists(folder() + "/out.partial"));
  const std::string script = folder() + "/out.slurm.sh";
  EXPECT_EQ(std::system(("bash -n " + quoted(script)).c_str()), 0);
  if (std::system("command -v shellcheck >/dev/null") == 0) {
    EXPECT_EQ(std::system(("shellcheck -S warning " + quoted(script)).c_str()), 0);
  }
  const std::string text = file_text(script);
  EXPECT_NE(text.find("'--account=lab' '--qos=low'"), std::string::npos) << text;
  EXPECT_EQ(text.find("calibrate=$(job"), std::string::npos) << "nothing is calibrated";
  // One step here, without sbatch; a step that does not exist.
  EXPECT_EQ(std::system(
                ("SLURM_PROCID=0 SLURM_NTASKS=1 bash " + quoted(script) + " merge >/dev/null 2>&1")
                    .c_str()),
            0);
  EXPECT_TRUE(fs::exists(folder() + "/out"));
  EXPECT_NE(std::system(("bash " + quoted(script) + " marge 2>/dev/null").c_str()), 0);
}

TEST_F(SlurmTest, MoreNodesThanShardsIsSaid) {
  fs::create_directories(folder());
  const lewis::Run run = lewis("slurm " + recipe() + " " + quoted(folder() + "/out") +
                               " --nodes 5 -q --json --disk-speed 1X");
  EXPECT_EQ(run.code, 2) << "X is no suffix";
  const lewis::Run said = lewis("slurm " + recipe() + " " + quoted(folder() + "/out") +
                                " --nodes 5 -q --json --disk-speed 1B");
  ASSERT_EQ(said.code, 0) << said.err;
  EXPECT_NE(said.err.find("the merge has 1 shard:"), std::string::npos) << said.err;
  const Json json = parse_json(said.out, "stdout");
  EXPECT_EQ(json["jobs"][0]["step"], "merge");
  EXPECT_EQ(json["jobs"][0]["tasks"], 1);
  EXPECT_GE(json["jobs"][0]["memory_mib"], 512);
}

TEST_F(SlurmTest, WhatMakesNoSenseIsRefused) {
  fs::create_directories(folder());
  for (const char* more : {"", "--nodes 0", "--nodes 2 --partition 'a b'", "--nodes 2 --cpus 0"}) {
    const lewis::Run run = lewis(slurm(more));
    EXPECT_EQ(run.code, 2) << more << run.err;
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
  }
  write_recipe(kGuided + "  refine: {ridge: 1}\n");
  const lewis::Run refined = lewis(slurm("--nodes 2"));
  EXPECT_EQ(refined.code, 2) << refined.err;
  EXPECT_FALSE(fs::exists(folder() + "/out.slurm.sh"));
}

TEST_F(SlurmTest, PlanForWorkers) {
  write_recipe(kGuided);
  const std::string plan = "plan " + recipe() + " --disk-speed 1M --out-shard-size 400K ";
  const Json four = json(plan + "--workers 4"), one = json(plan + "--workers 1");
  EXPECT_EQ(four["workers"], 4);
  EXPECT_EQ(four["speed_is_measured"], false);
  const auto step = [](const Json& all, const std::string& name) {
    for (const Json& s : all["steps"]) {
      if (s["step"] == name) return s;
    }
    return Json();
  };
  EXPECT_EQ(step(four, "merge")["parts"], 4);
  EXPECT_EQ(step(four, "calibrate")["parts"], 4);
  const double part = step(four, "merge")["bytes_read"], whole = step(one, "merge")["bytes_read"];
  EXPECT_LT(part, 0.5 * whole);
  EXPECT_GE(part, 0.25 * whole);
  // 1 MB/s, as stated: the slower of reading and writing.
  EXPECT_NEAR(step(four, "merge")["seconds"], part / 1e6, 1e-6);
  EXPECT_NEAR(step(four, "finish")["seconds"], four["bytes_written"].get<double>() / 1e6, 1e-6);
  const lewis::Run text = lewis(plan + "--workers 100");
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("as stated"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("--out-shard-size"), std::string::npos) << text.out;
  EXPECT_EQ(lewis("plan " + recipe() + " --disk-speed 1M").code, 2);
  EXPECT_EQ(lewis(plan + "--workers 2 --diagnostics").code, 2);
}

TEST_F(SlurmTest, StatusOfParts) {
  const std::string out = quoted((dir_.path / "out").string());
  const lewis::Run none = lewis("status " + out);
  EXPECT_EQ(none.code, 3);
  EXPECT_NE(none.err.find("no merge is there"), std::string::npos) << none.err;
  const std::string merge = "merge " + recipe() + " " + out + " --out-shard-size 400K -q --part ";
  ASSERT_EQ(lewis(merge + "0/2").code, 0);
  const Json half = json("status " + out);
  EXPECT_EQ(half["state"], "workers");
  EXPECT_EQ(half["complete"], false);
  EXPECT_EQ(half["workers"], Json::array());
  EXPECT_EQ(half["written_by"].size(), 1u);
  EXPECT_EQ(half["written_by"][0]["task"], "part 0/2");
  EXPECT_EQ(half["shards"].get<size_t>(),
            half["shards_done"].get<size_t>() + half["free_shards"].size());
  const lewis::Run text = lewis("status " + out);
  EXPECT_NE(text.out.find("nobody is at work on"), std::string::npos) << text.out;
  ASSERT_EQ(lewis(merge + "1/2").code, 0);
  const Json all = json("status " + out);
  EXPECT_EQ(all["complete"], true);
  EXPECT_EQ(all["shards"], half["shards"]);
  EXPECT_EQ(all["bytes"], half["bytes"]);
}

}  // namespace
}  // namespace lewis
