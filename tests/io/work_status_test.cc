// What `lewis status` sees of work that is shared beside a merge.
#include "io/work_status.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/dump_json.h"
#include "base/json.h"
#include "io/json_lines.h"
#include "io/safetensors.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const WorkerPace kPace{std::chrono::milliseconds(20), std::chrono::milliseconds(200)};

std::optional<WorkStatus> status_of(const fs::path& folder) {
  return work_status(folder, kPace, [] {});
}

TEST(WorkStatus, OfAnEvaluation) {
  const TempDir dir;
  const fs::path items = dir.path / "models__m" / "items";
  fs::create_directories(items);
  const JournalIdentity key{"evaluation", "k"};
  const Json first[] = {{{"task", "gsm8k"}, {"items", 9}}, {{"item", 2}}, {{"item", 5}}};
  JsonLines::begin(items / "gsm8k_k.a.jsonl", key, first);
  const Json second[] = {{{"task", "gsm8k"}, {"items", 9}}, {{"item", 5}}, {{"item", 0}}};
  JsonLines::begin(items / "gsm8k_k.b.jsonl", key, second);
  const Json alone[] = {{{"item", 7}}};
  JsonLines::begin(items / "gsm8k_k.jsonl", key, alone);
  JsonLines::begin(items / "my_loss_o.jsonl", {"evaluation", "o"}, alone);
  std::optional<Worker> worker(std::in_place, items, "part 0/2", kPace);
  const auto status = status_of(dir.path);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->kind, "evaluation");
  ASSERT_EQ(status->works.size(), 2u);
  EXPECT_EQ(status->works[0].name, "models__m, gsm8k");
  EXPECT_EQ(status->works[0].done, 4u) << "item 5 is there twice";
  EXPECT_EQ(status->works[0].total, 9u);
  EXPECT_EQ(status->works[1].name, "models__m, my_loss");
  EXPECT_EQ(status->works[1].total, std::nullopt);
  ASSERT_EQ(status->workers.size(), 1u);
  EXPECT_EQ(status->workers[0].task, "part 0/2");
  EXPECT_EQ(status->workers[0].process, ::getpid());
  EXPECT_TRUE(status->workers[0].alive);
  worker.reset();
  EXPECT_TRUE(status_of(dir.path)->workers.empty());
}

// The file of a worker of another machine after `seconds`, which another process might have left.
void write_worker(const fs::path& items, const std::string& token, int beats, double seconds) {
  const Json json = {{"host", token},      {"place", "another machine"},
                     {"process", 7},       {"started", 1},
                     {"task", token},      {"beats", beats},
                     {"seconds", seconds}, {"bytes", 0}};
  write_raw(items / (token + ".worker"), dump_json(json));
}

// A journal of a worker that had `left` items when it began, and has finished `done`.
void write_items(const fs::path& file, const std::string& key, int left, int done) {
  std::vector<Json> records = {{{"task", "t"}, {"items", 1000}, {"left", left}}};
  for (int i = 0; i < done; ++i) records.push_back({{"item", i}});
  JsonLines::begin(file, {"evaluation", key}, records);
}

// The worker of node-1 did 40 items of its first task and 20 of its second one in 30 seconds: two
// per second, with 80 of its 100 left. That of node.2, whose name has a point, has 10 items left at
// half an item per second. What is watched counts up, as a worker elsewhere would.
TEST(WorkStatus, TimeLeftOfAnEvaluation) {
  const TempDir dir;
  const fs::path items = dir.path / "models__m" / "items";
  fs::create_directories(items);
  write_items(items / "one_k.node-1.jsonl", "k", 140, 40);
  write_items(items / "two_l.node-1.jsonl", "l", 100, 20);
  write_items(items / "one_k.node.2.jsonl", "k", 20, 10);
  write_worker(items, "node-1", 3, 30);
  write_worker(items, "node.2", 2, 20);
  int beats = 3;
  const auto count_up = [&] {
    ++beats;
    write_worker(items, "node-1", beats, 30);
    write_worker(items, "node.2", beats, 20);
  };
  const auto status = work_status(dir.path, kPace, count_up);
  ASSERT_EQ(status->workers.size(), 2u);
  EXPECT_EQ(status->workers[0].left, 80u);
  EXPECT_EQ(status->workers[0].speed, 2.0);
  EXPECT_EQ(status->workers[1].left, 10u);
  EXPECT_EQ(status->workers[1].speed, 0.5);
  EXPECT_EQ(status->speed, 2.5);
  EXPECT_EQ(status->seconds_left, 40.0) << "80 at 2 per second, not 10 at half an item";
  // One that has not counted up is not at work.
  const auto silent = work_status(dir.path, {kPace.beat, {}}, [] {});
  EXPECT_EQ(silent->workers[0].left, 80u);
  EXPECT_FALSE(silent->seconds_left);
  EXPECT_FALSE(silent->speed);
}

// Between its begin and its first sign of life nothing is known of a worker's speed, nor hence of
// the time of all; and nothing of a journal that does not say how many items are left.
TEST(WorkStatus, TimeLeftIsNotGuessed) {
  const TempDir dir;
  const fs::path items = dir.path / "models__m" / "items";
  fs::create_directories(items);
  std::optional<Worker> worker(std::in_place, items, "part 0/2", WorkerPace{});
  write_items(items / ("one_k." + worker->token() + ".jsonl"), "k", 20, 10);
  auto status = status_of(dir.path);
  ASSERT_EQ(status->workers.size(), 1u);
  EXPECT_TRUE(status->workers[0].alive);
  EXPECT_EQ(status->workers[0].left, 10u);
  EXPECT_FALSE(status->workers[0].speed);
  EXPECT_FALSE(status->seconds_left);
  const Json old[] = {{{"task", "t"}, {"items", 9}}, {{"item", 2}}};
  JsonLines::begin(items / ("one_k." + worker->token() + ".jsonl"), {"evaluation", "k"}, old);
  status = status_of(dir.path);
  EXPECT_FALSE(status->workers[0].left);
  EXPECT_FALSE(status->seconds_left);
}

TEST(WorkStatus, OfACalibration) {
  const TempDir dir;
  const fs::path pieces = dir.path / "00ff.pieces";
  fs::create_directories(pieces);
  EXPECT_EQ(status_of(dir.path)->works.at(0).done, 0u) << "nothing is written yet";
  for (const char* piece : {"003", "017"}) {
    const Metadata metadata = {
        {"piece", std::to_string(std::stoi(piece)) + "/32"}, {"model", "m"}, {"data", "a/t.jsonl"}};
    write_safetensors(pieces / (std::string(piece) + ".safetensors"), {}, {}, metadata);
  }
  const auto status = status_of(dir.path);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->kind, "calibration");
  EXPECT_EQ(status->works.at(0).name, "m on t.jsonl");
  EXPECT_EQ(status->works.at(0).done, 2u);
  EXPECT_EQ(status->works.at(0).total, 32u);
}

TEST(WorkStatus, OfAnythingElse) {
  const TempDir dir;
  EXPECT_FALSE(status_of(dir.path));
  EXPECT_FALSE(status_of(dir.path / "missing"));
  fs::create_directories(dir.path / "model");
  write_raw(dir.path / "model/config.json", "{}");
  EXPECT_FALSE(status_of(dir.path));
}

}  // namespace
}  // namespace lewis
