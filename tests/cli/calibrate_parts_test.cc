// A recipe's calibration in parts, as its users run it: whatever the workers do, the cache gets the
// bytes of one process.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "kill_lewis.h"
#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class CalibrateParts : public LewisTest {
 protected:
  CalibrateParts() {
    write_recipe(5);
    EXPECT_EQ(lewis("calibrate " + recipe() + " --cache " + cache("alone") + " -q").code, 0);
    expected_ = snapshot(cache("alone"));
    EXPECT_EQ(expected_.size(), 4u);
  }

  void write_recipe(int samples, const std::string& more = "") const {
    std::ofstream file(dir_.path / "r.yml");
    file << "merge_method: ties\nbase_model: " LEWIS_DEMO "/models/base\nmodels:\n";
    for (const char* model : {"math", "code"})
      file << "- {model: " LEWIS_DEMO "/models/" << model << ", parameters: {weight: 1}}\n";
    file << "parameters: {density: 0.5}\nlewis:\n  calibration:\n";
    for (const auto& [model, format] : {std::pair{"math", "gsm8k"}, {"code", "mbpp"}}) {
      file << "  - {model: " LEWIS_DEMO "/models/" << model << ", data: " LEWIS_DEMO "/data/"
           << model << "_train.jsonl, format: " << format << ", samples: " << samples << "}\n";
    }
    file << more;
  }
  std::string recipe() const { return (dir_.path / "r.yml").string(); }
  std::string cache(const std::string& name) const { return (dir_.path / name).string(); }
  std::string command(const std::string& which, const std::string& where) const {
    return "calibrate " + recipe() + " --cache " + cache(where) + " " + which;
  }
  lewis::Run part(const std::string& which, const std::string& where = "shared") {
    return lewis(command("--part " + which, where) + " -q");
  }
  void expect_complete(const std::string& where = "shared") {
    EXPECT_EQ(snapshot(cache(where)), expected_);
    fs::remove_all(cache(where));
  }

  std::map<std::string, std::string> expected_;
};

// tests/calibrate has more numbers, without processes.
TEST_F(CalibrateParts, AnyNumberInAnyOrder) {
  std::mt19937 random(4);
  for (const int count : {1, 3, 8}) {
    std::vector<int> order;
    for (int i = 0; i < count; ++i) order.push_back(i);
    std::ranges::shuffle(order, random);
    for (const int i : order) {
      const lewis::Run run = part(std::to_string(i) + "/" + std::to_string(count));
      ASSERT_EQ(run.code, 0) << run.err;
      EXPECT_NE(run.out.find("pieces measured"), std::string::npos) << run.out;
      const bool said = run.out.find("complete: all statistics") != std::string::npos;
      EXPECT_EQ(said, i == order.back()) << run.out;
    }
    expect_complete();
  }
}

TEST_F(CalibrateParts, BesideEachOtherAndTheSamePartTwice) {
  std::vector<std::thread> workers;
  std::vector<lewis::Run> runs(5);
  for (size_t i = 0; i < runs.size(); ++i) {
    workers.emplace_back([&, i] {
      const fs::path scratch = dir_.path / ("worker" + std::to_string(i));
      fs::create_directories(scratch);
      runs[i] = run_lewis(scratch, command("--part " + std::to_string(i % 4) + "/4", "shared"));
    });
  }
  for (std::thread& worker : workers) worker.join();
  for (const lewis::Run& run : runs) EXPECT_EQ(run.code, 0) << run.err;
  // Both of part 0 may have left something to each other only if one of them was alive to do it.
  EXPECT_EQ(lewis(command("--finish", "shared") + " -q").code, 0);
  expect_complete();
}

TEST_F(CalibrateParts, TheirNumberMayChange) {
  EXPECT_EQ(part("1/3").code, 0);
  const lewis::Run early = lewis(command("--finish", "shared"));
  EXPECT_EQ(early.code, 2);
  EXPECT_NE(early.err.find("run the parts first"), std::string::npos) << early.err;
  EXPECT_EQ(part("0/2").code, 0);
  const Json last = json(command("--part 1/2", "shared"));
  EXPECT_EQ(last["pieces"], 20);
  EXPECT_EQ(last["pieces_left"], 0);
  EXPECT_EQ(last["statistics"].size(), 4u);
  // What part 1/3 had measured was not measured again.
  EXPECT_LT(last["pieces_measured"].get<int>(), 10);
  expect_complete();
}

TEST_F(CalibrateParts, KilledAtAnyMoment) {
  std::mt19937 random(9);
  for (int round = 0; round < 12; ++round) {
    const int count = 1 + static_cast<int>(random() % 4);
    run_and_kill(
        command("--part " + std::to_string(round % count) + "/" + std::to_string(count), "shared") +
            " -q --threads 1",
        static_cast<int>(random() % 600));
  }
  for (const char* which : {"0/2", "1/2"}) {
    const lewis::Run run = part(which);
    EXPECT_EQ(run.code, 0) << run.err;
  }
  expect_complete();
}

TEST_F(CalibrateParts, ADamagedPieceIsMeasuredAgain) {
  EXPECT_EQ(part("0/2").code, 0);
  size_t damaged = 0;
  for (const auto& entry : fs::recursive_directory_iterator(cache("shared"))) {
    if (entry.path().extension() != ".safetensors" || entry.path().stem() != "001") continue;
    std::string bytes = file_text(entry.path());
    bytes[bytes.size() - 9] ^= 1;
    std::ofstream(entry.path(), std::ios::binary) << bytes;
    ++damaged;
  }
  EXPECT_GT(damaged, 0u);
  const lewis::Run second = part("1/2");
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_NE(second.out.find("not there yet"), std::string::npos) << second.out;
  EXPECT_EQ(part("0/2").code, 0);
  expect_complete();
}

TEST_F(CalibrateParts, OtherTextsAreNotMixed) {
  EXPECT_EQ(part("0/2").code, 0);
  write_recipe(4);
  EXPECT_EQ(part("1/2").code, 0);
  const lewis::Run finish = lewis(command("--finish", "shared"));
  EXPECT_EQ(finish.code, 2) << finish.err;
}

TEST_F(CalibrateParts, TheProtocolReferenceIsNotCutButShared) {
  write_recipe(2, "  protocol: reference\n");
  EXPECT_EQ(lewis("calibrate " + recipe() + " --cache " + cache("alone2") + " -q").code, 0);
  expected_ = snapshot(cache("alone2"));
  EXPECT_EQ(part("1/2").code, 0);
  EXPECT_EQ(part("0/2").code, 0);
  expect_complete();
}

TEST_F(CalibrateParts, WhatMakesNoSense) {
  const std::string model = LEWIS_DEMO "/models/math";
  for (const std::string& line :
       {"calibrate " + model +
            " --data " LEWIS_DEMO "/data/math_train.jsonl --format gsm8k --part 0/2",
        command("--part 2/2", "shared"), command("--part 1", "shared"),
        "calibrate " + recipe() + " --cache '' --part 0/2"}) {
    const lewis::Run run = lewis(line);
    EXPECT_EQ(run.code, 2) << line << run.err;
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
  }
  EXPECT_FALSE(fs::exists(cache("shared")));
}

}  // namespace
}  // namespace lewis
