// What `lewis status` sees of work that is shared beside a merge.
#include "io/work_status.h"

#include <gtest/gtest.h>
#include <unistd.h>

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
