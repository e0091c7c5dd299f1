// What `lewis status` sees of workers, of one process, and of what they have completed.
#include "io/merge_status.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "io/model_writer.h"
#include "io/part_writer.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const WorkerPace kPace{std::chrono::milliseconds(20), std::chrono::milliseconds(200)};

// Twelve tensors, each in a shard of its own.
std::vector<TensorInfo> some_tensors() {
  std::vector<TensorInfo> tensors;
  for (int i = 0; i < 12; ++i) tensors.push_back({fmt::format("t{:02}", i), DType::kU8, {100 + i}});
  return tensors;
}

void write(TensorWriter& writer, size_t most = SIZE_MAX) {
  for (size_t t = 0; t < std::min(most, writer.tensors().size()); ++t) {
    const std::vector<std::byte> bytes(byte_size(writer.tensors()[t]));
    writer.write(t, 0, bytes);
  }
}

class Status : public testing::Test {
 protected:
  PartOptions options(std::optional<MergePart> part) const {
    return {.shard_bytes = 100, .plan = "plan", .part = part, .pace = kPace};
  }
  std::unique_ptr<PartWriter> worker(uint64_t index, uint64_t count) {
    return std::make_unique<PartWriter>(out_, some_tensors(), options(MergePart{index, count}),
                                        threads_);
  }
  MergeStatus status() const {
    return merge_status(out_, kPace, [] {});
  }
  // As if its process had ended without a word: another one has its number now.
  void kill_workers() {
    for (const auto& entry : fs::directory_iterator(parts_)) {
      if (entry.path().extension() != ".worker") continue;
      Json state = read_json(entry.path());
      state["started"] = 1;
      write_raw(entry.path(), state.dump());
    }
  }

  TempDir dir_;
  fs::path out_ = dir_.path / "out", partial_ = dir_.path / "out.partial",
           parts_ = partial_ / ".lewis-parts";
  Threads threads_{1};
};

TEST_F(Status, OfWorkers) {
  const auto first = worker(0, 2), second = worker(1, 2);
  write(*first, 2);
  write(*second, 3);
  const MergeStatus s = status();
  EXPECT_EQ(s.state, MergeState::kWorkers);
  EXPECT_EQ(s.shards, 12u);
  EXPECT_EQ(s.shards_done, 5u);
  EXPECT_GT(s.bytes, s.bytes_done);
  EXPECT_FALSE(s.program.empty());
  ASSERT_EQ(s.workers.size(), 2u);
  size_t left = 0;
  for (const WorkerStatus& w : s.workers) {
    EXPECT_TRUE(w.alive && w.here);
    EXPECT_EQ(w.process, getpid());
    EXPECT_TRUE(w.task == "part 0/2" || w.task == "part 1/2") << w.task;
    EXPECT_EQ(w.shards.size(), w.task == "part 0/2" ? 4u : 3u);
    left += w.shards.size();
  }
  EXPECT_EQ(left, 7u);
  EXPECT_TRUE(s.free.empty());
  ASSERT_EQ(s.written.size(), 2u);
  EXPECT_EQ(s.written[0].shards + s.written[1].shards, 5u);
  EXPECT_TRUE(s.written[0].speed.has_value());
}

// A worker's speed comes from its own clock, when it has counted up.
TEST_F(Status, SpeedAndTimeLeft) {
  const auto first = worker(0, 1);
  write(*first, 6);
  MergeStatus s;
  for (int i = 0; i < 200 && !s.speed; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    s = status();
  }
  ASSERT_TRUE(s.speed && s.seconds_left);
  EXPECT_GT(*s.speed, 0);
  EXPECT_NEAR(*s.seconds_left, static_cast<double>(s.bytes - s.bytes_done) / *s.speed, 1e-6);
}

TEST_F(Status, OfADeadWorkerItsShardsAreFree) {
  {
    PartOptions silent = options(MergePart{0, 2});
    silent.pace.beat = std::chrono::hours(1);
    PartWriter dead(out_, some_tensors(), silent, threads_);
    write(dead, 2);
    kill_workers();
    const MergeStatus s = status();
    EXPECT_TRUE(s.workers.empty());
    EXPECT_EQ(s.shards_done, 2u);
    EXPECT_EQ(s.free.size(), 10u);
    EXPECT_FALSE(s.speed);
    EXPECT_FALSE(s.seconds_left);
  }
}

TEST_F(Status, AWorkerElsewhereMustCountUp) {
  const auto first = worker(0, 2);
  write(*first, 1);
  const auto sign = [&](int beats) {
    write_raw(parts_ / "new",
              fmt::format(R"({{"host":"node7","place":"p","process":4711,"started":1,)"
                          R"("task":"part 1/2","beats":{},"seconds":2.0,"bytes":200}})",
                          beats));
    fs::rename(parts_ / "new", parts_ / "node7-4711-0.worker");
  };
  sign(0);
  std::string shard;
  for (const std::string& name : status().free) shard = name;
  ASSERT_FALSE(shard.empty());
  fs::create_symlink("node7-4711-0", parts_ / (shard + ".claim"));
  const auto elsewhere = [](const MergeStatus& s) {
    const auto it = std::ranges::find(s.workers, "node7", &WorkerStatus::host);
    EXPECT_NE(it, s.workers.end());
    return it == s.workers.end() ? WorkerStatus{} : *it;
  };
  const MergeStatus silent = status();
  EXPECT_FALSE(elsewhere(silent).alive);
  EXPECT_EQ(elsewhere(silent).shards, std::vector<std::string>{shard});
  EXPECT_NE(std::ranges::find(silent.free, shard), silent.free.end());
  std::atomic<bool> beating = true;
  std::thread beats([&] {
    for (int beat = 1; beating; ++beat) {
      sign(beat);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
  const MergeStatus alive = status();
  beating = false;
  beats.join();
  EXPECT_TRUE(elsewhere(alive).alive);
  EXPECT_FALSE(elsewhere(alive).here);
  EXPECT_EQ(elsewhere(alive).speed, 100.0);
  EXPECT_EQ(std::ranges::find(alive.free, shard), alive.free.end());
}

TEST_F(Status, OfOneProcess) {
  ModelWriter writer(out_, some_tensors(), {.shard_bytes = 100, .plan = "plan"});
  write(writer, 4);
  // The times of the files are compared with one another, not with a clock: here all are in 1970.
  int64_t second = 0;
  for (int i = 1; i <= 4; ++i) {
    const fs::path shard = partial_ / fmt::format("model-{:05}-of-00012.safetensors", i);
    second += i == 3 ? 100000 : 2;  // with a pause of a day
    fs::last_write_time(shard, fs::file_time_type::clock::from_sys(
                                   std::chrono::sys_seconds(std::chrono::seconds(second))));
  }
  MergeStatus s = status();
  EXPECT_EQ(s.state, MergeState::kOneProcess);
  EXPECT_EQ(s.shards, 12u);
  EXPECT_EQ(s.shards_done, 4u);
  EXPECT_EQ(s.process, getpid());
  ASSERT_TRUE(s.speed);
  const auto shard_bytes =
      static_cast<double>(fs::file_size(partial_ / "model-00004-of-00012.safetensors"));
  EXPECT_NEAR(*s.speed, shard_bytes / 2, 2);
  EXPECT_NEAR(*s.seconds_left, static_cast<double>(s.bytes - s.bytes_done) / *s.speed, 1e-6);
  writer.keep_partial();
}

TEST_F(Status, OfOneProcessThatWasInterrupted) {
  {
    ModelWriter writer(out_, some_tensors(), {.shard_bytes = 100, .plan = "plan"});
    write(writer, 4);
    writer.keep_partial();
  }
  const MergeStatus s = merge_status(partial_, kPace, [] {});  // OUT.partial is understood, too
  EXPECT_EQ(s.out, out_);
  EXPECT_EQ(s.shards_done, 4u);
  EXPECT_FALSE(s.process);
  EXPECT_FALSE(s.seconds_left);
  // Workers that go on with it count what it has left.
  const auto next = worker(0, 2);
  const MergeStatus workers = status();
  EXPECT_EQ(workers.state, MergeState::kWorkers);
  EXPECT_EQ(workers.shards_done, 4u);
  ASSERT_EQ(workers.written.size(), 1u);
  EXPECT_EQ(workers.written[0].task, "one process");
}

TEST_F(Status, OfACompleteMerge) {
  {
    const auto one = worker(0, 1);
    write(*one);
    ASSERT_TRUE(one->completes());
    one->add_file("config.json", "{}");
    one->commit(Json{{"lewis_version", "1.2"}});
  }
  const MergeStatus s = status();
  EXPECT_EQ(s.state, MergeState::kComplete);
  EXPECT_EQ(s.shards, 12u);
  EXPECT_EQ(s.shards_done, 12u);
  EXPECT_EQ(s.bytes, s.bytes_done);
  EXPECT_EQ(s.program, "1.2");
  fs::resize_file(out_ / "model-00003-of-00012.safetensors", 10);
  try {
    status();
    FAIL() << "a shard that is cut is complete";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kVerify);
  }
}

TEST_F(Status, WhereThereIsNoMerge) {
  for (const bool folder : {false, true}) {
    if (folder) fs::create_directories(out_);
    try {
      status();
      FAIL() << "there is no merge";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput);
      EXPECT_NE(std::string(e.what()).find("no merge is there"), std::string::npos) << e.what();
    }
  }
  fs::create_directories(partial_);
  EXPECT_THROW(status(), Error);
  write_raw(partial_ / "letter.txt", "of somebody else");
  EXPECT_THROW(status(), Error);
}

TEST_F(Status, ARecordThatCannotBeBelieved) {
  {
    const auto first = worker(0, 2);
    write(*first, 2);
  }
  for (const auto& entry : fs::directory_iterator(parts_)) {
    if (entry.path().extension() == ".record") {
      write_raw(entry.path(), "{}");
      break;
    }
  }
  const MergeStatus s = status();
  EXPECT_EQ(s.shards_done, 1u);
  ASSERT_EQ(s.notes.size(), 1u);
  EXPECT_NE(s.notes[0].find("cannot be believed"), std::string::npos);
}

}  // namespace
}  // namespace lewis
