// An evaluation in parts, as its users run it: whatever the workers do, the results are those of
// one process.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "eval_contents.h"
#include "kill_lewis.h"
#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Two models, questions whose answers are drawn, and losses.
const std::string kEval =
    "eval " LEWIS_DEMO "/models/base " LEWIS_DEMO "/models/math --task gsm8k:" LEWIS_DEMO
    "/data/math_test.jsonl --task loss:" LEWIS_DEMO
    "/data/code_test.jsonl:mbpp --limit 9 --max-new-tokens 24 --temperature 0.7 --baseline base "
    "--log-samples -q ";
constexpr int kItems = 2 * (9 + 9);

class EvalParts : public LewisTest {
 protected:
  EvalParts() {
    EXPECT_EQ(lewis(kEval + "--output-path " + folder("alone")).code, 0);
    expected_ = eval_contents(folder("alone"));
  }

  std::string folder(const std::string& name) const { return (dir_.path / name).string(); }
  std::string command(const std::string& which) const {
    return kEval + "--output-path " + folder("shared") + " " + which;
  }
  Json part(const std::string& which) {
    const lewis::Run run = lewis(command("--json --part " + which));
    EXPECT_EQ(run.code, 0) << run.err;
    return run.code == 0 ? parse_json(run.out, "stdout") : Json{{"part_items_run", -1}};
  }
  int items_run(const std::string& which) { return part(which).value("part_items_run", 0); }
  void expect_results() {
    EXPECT_EQ(eval_contents(folder("shared")), expected_);
    fs::remove_all(folder("shared"));
  }

  std::string expected_;
};

TEST_F(EvalParts, AnyNumberInAnyOrder) {
  std::mt19937 random(2);
  for (const int count : {1, 3, 8}) {
    std::vector<int> order;
    for (int i = 0; i < count; ++i) order.push_back(i);
    std::ranges::shuffle(order, random);
    int items = 0;
    for (const int i : order) {
      const int its = items_run(std::to_string(i) + "/" + std::to_string(count));
      EXPECT_LT(its, count > 1 ? kItems : kItems + 1);
      items += its;
    }
    EXPECT_EQ(items, kItems) << count;
    EXPECT_EQ(eval_contents(folder("shared")), "") << "a part writes no results";
    const lewis::Run finish = lewis(command("--finish"));
    ASSERT_EQ(finish.code, 0) << finish.err;
    expect_results();
  }
}

TEST_F(EvalParts, TheNumberOfPartsMayChangeAndNothingIsRunTwice) {
  const int first = items_run("1/3");
  EXPECT_GT(first, 0);
  EXPECT_EQ(items_run("1/3"), 0) << "the same part again";
  EXPECT_EQ(first + items_run("0/2") + items_run("1/2"), kItems);
  EXPECT_EQ(lewis(command("--finish")).code, 0);
  expect_results();
}

TEST_F(EvalParts, FinishNamesWhatIsMissingAndAPlainRunRunsIt) {
  EXPECT_GT(items_run("0/2"), 0);
  const lewis::Run early = lewis(command("--finish"));
  EXPECT_EQ(early.code, 2);
  EXPECT_NE(early.err.find("of 9 items"), std::string::npos) << early.err;
  EXPECT_EQ(std::ranges::count(early.err, '\n'), 1) << early.err;
  EXPECT_EQ(eval_contents(folder("shared")), "");
  ASSERT_EQ(lewis(command("")).code, 0);
  expect_results();
}

TEST_F(EvalParts, APartGoesOnWithWhatOneProcessHasLeft) {
  run_and_kill(command(""), 150);
  int items = 0;
  for (const char* which : {"0/2", "1/2"}) items += items_run(which);
  EXPECT_LE(items, kItems);
  EXPECT_EQ(lewis(command("--finish")).code, 0);
  expect_results();
}

TEST_F(EvalParts, KilledAtAnyMoment) {
  std::mt19937 random(5);
  for (int round = 0; round < 10; ++round) {
    const int count = 1 + static_cast<int>(random() % 4);
    run_and_kill(command("--part " + std::to_string(random() % static_cast<unsigned>(count)) + "/" +
                         std::to_string(count)),
                 static_cast<int>(random() % 700));
  }
  for (const char* which : {"0/2", "1/2"}) EXPECT_GE(items_run(which), 0);
  EXPECT_EQ(lewis(command("--finish")).code, 0);
  expect_results();
}

TEST_F(EvalParts, BesideEachOtherAndTheSamePartTwice) {
  std::vector<std::thread> workers;
  std::vector<lewis::Run> runs(4);
  for (size_t i = 0; i < runs.size(); ++i) {
    workers.emplace_back([&, i] {
      const fs::path scratch = dir_.path / ("worker" + std::to_string(i));
      fs::create_directories(scratch);
      runs[i] = run_lewis(scratch, command("--part " + std::to_string(i % 3) + "/3"));
    });
  }
  for (std::thread& worker : workers) worker.join();
  for (const lewis::Run& run : runs) EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(lewis(command("--finish")).code, 0);
  expect_results();
}

// Other items are another journal, so nothing of them is taken over.
TEST_F(EvalParts, OtherSettingsAreNotMixed) {
  EXPECT_GT(items_run("0/1"), 0);
  const lewis::Run finish = lewis(command("--finish --seed 3"));
  EXPECT_EQ(finish.code, 2) << finish.err;
}

TEST_F(EvalParts, WhatMakesNoSense) {
  for (const std::string& line :
       {kEval + "--part 0/2", kEval + "--finish", command("--part 2/2"), command("--part 1"),
        command("--part 0/2 --no-resume"), command("--part 0/2 --finish"),
        "eval --results " + folder("alone") + " --output-path " + folder("shared") + " --finish"}) {
    const lewis::Run run = lewis(line);
    EXPECT_EQ(run.code, 2) << line << run.err;
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
  }
  EXPECT_FALSE(fs::exists(folder("shared")));
}

}  // namespace
}  // namespace lewis
