#include "eval/results/journal.h"

#include <gtest/gtest.h>

#include <fstream>
#include <optional>

#include "base/error.h"
#include "base/text_file.h"
#include "task_outcome.h"
#include "temp_dir.h"

namespace lewis {
namespace {

class JournalTest : public testing::Test {
 protected:
  JournalTest() {
    task_.name = "t";
    task_.metrics.resize(2);
    task_.items.resize(5);
  }
  static ItemResult result(int i) {
    ItemResult r;
    r.scores = {{i / 3.0, 1}, {1e-300 * i, 7}};
    r.response = "a\n\"" + std::to_string(i) + "\" é";
    r.filtered = {"x", ""};
    r.details = {{"n", i}};
    return r;
  }
  EvalJournal open(const Json& about = {{"model", "m"}}, bool fresh = false) {
    return EvalJournal(dir_.path / "items", task_, about, fresh);
  }
  std::filesystem::path file() const {
    return std::filesystem::directory_iterator(dir_.path / "items")->path();
  }

  TempDir dir_;
  PreparedTask task_;
};

TEST_F(JournalTest, GivesBackWhatWasAppended) {
  for (const int i : {3, 0, 4}) {
    EvalJournal journal = open();
    journal.append(static_cast<size_t>(i), result(i));
  }
  const EvalJournal journal = open();
  ASSERT_EQ(journal.finished().size(), 3u);
  for (const int i : {0, 3, 4}) EXPECT_EQ(journal.finished().at(static_cast<size_t>(i)), result(i));
}

// Cut after every byte: what is whole is there, and what is appended then comes after it.
TEST_F(JournalTest, IsCutWhereItIsTorn) {
  {
    EvalJournal journal = open();
    for (const int i : {0, 1, 2}) journal.append(static_cast<size_t>(i), result(i));
  }
  const std::string whole = read_text_file(file());
  for (size_t bytes = 0; bytes <= whole.size(); ++bytes) {
    std::ofstream(file()) << whole.substr(0, bytes);
    const auto lines = static_cast<size_t>(std::count(whole.begin(), whole.begin() + bytes, '\n'));
    {
      EvalJournal journal = open();
      ASSERT_EQ(journal.finished().size(), std::max<size_t>(lines, 1) - 1) << bytes;
      journal.append(4, result(4));
    }
    ASSERT_EQ(open().finished().at(4), result(4)) << bytes;
  }
  std::ofstream(file()) << whole << std::string(100, '\0');  // as after a power cut
  EXPECT_EQ(open().finished().size(), 3u);
}

TEST_F(JournalTest, OtherSettingsAreAnotherJournal) {
  open().append(1, result(1));
  EXPECT_TRUE(open({{"model", "other"}}).finished().empty());
  EXPECT_EQ(open().finished().size(), 1u);
  EXPECT_TRUE(open({{"model", "m"}}, true).finished().empty());
  EXPECT_TRUE(open().finished().empty()) << "forgotten for good";
}

TEST_F(JournalTest, IsOneProcesssAlone) {
  const EvalJournal first = open();
  EXPECT_THROW(open(), Error);
}

TEST_F(JournalTest, RefusesAFileThatIsNoJournal) {
  open();
  std::ofstream(file()) << "something of mine\n";
  EXPECT_THROW(open(), Error);
  EXPECT_EQ(read_text_file(file()), "something of mine\n");
}

// Each worker's journal has a name of its own; all of them are read, the torn one to its last whole
// line.
TEST_F(JournalTest, OfSeveralWorkersIsJoined) {
  const Json about = {{"model", "m"}};
  const auto folder = dir_.path / "items";
  std::filesystem::create_directories(folder);
  EXPECT_TRUE(finished_items(folder, task_, about).empty());
  {
    EvalJournal a = EvalJournal::of_worker(folder, task_, about, "a", 2);
    EvalJournal b = EvalJournal::of_worker(folder, task_, about, "b", 1);
    EvalJournal alone = open();
    a.append(1, result(1));
    b.append(1, result(1));
    b.append(4, result(4));
    alone.append(0, result(0));
    EvalJournal::of_worker(folder, task_, {{"model", "other"}}, "a", 1).append(2, result(2));
    EXPECT_EQ(a.finished().size(), 1u);
    const auto all = finished_items(folder, task_, about);
    ASSERT_EQ(all.size(), 3u);
    for (const int i : {0, 1, 4}) EXPECT_EQ(all.at(static_cast<size_t>(i)), result(i));
  }
  const std::filesystem::path file = folder / (JournalOfTask(task_, about).name + ".b.jsonl");
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 3);
  EXPECT_EQ(open().finished().size(), 2u);
  std::ofstream(file) << "something of mine\n";
  EXPECT_THROW(finished_items(folder, task_, about), Error);
  EXPECT_THROW(open(), Error);
}

TEST_F(JournalTest, AnewForgetsWhatWorkersHaveFinished) {
  const Json about = {{"model", "m"}};
  std::filesystem::create_directories(dir_.path / "items");
  EvalJournal::of_worker(dir_.path / "items", task_, about, "a", 1).append(3, result(3));
  EXPECT_EQ(open().finished().size(), 1u);
  EXPECT_TRUE(open(about, true).finished().empty());
  EXPECT_TRUE(open().finished().empty()) << "forgotten for good";
}

// Stopped after any item, a task gives the same results, and runs no item twice.
TEST(Resume, GivesTheSameResults) {
  const std::filesystem::path demo = LEWIS_DEMO;
  const TestModel model(demo / "models/base");
  const Tokenizer tokenizer = Tokenizer::load(demo / "models/base");
  for (const char* name : {"gsm8k", "loss"}) {
    TaskOptions options;
    options.task = name;
    options.data = demo / "data/math_test.jsonl";
    options.format = "gsm8k";
    options.limit = 12;
    options.max_new_tokens = 24;
    options.temperature = 0.8;  // the draws belong to the item, wherever it stands in the batch
    const PreparedTask task = prepare_task(options, model.transformer.spec(), &tokenizer);
    const TaskModel on{model.transformer, &tokenizer, tokenizer.stop_ids()};
    const std::vector<ItemResult> whole = run_task(task, on, {}, {}, {});
    std::map<size_t, ItemResult> known;
    for (const size_t i : {11, 2, 5}) known[i] = whole[i];
    size_t ran = 0;
    const ItemFn count = [&](size_t item, const ItemResult&) {
      EXPECT_FALSE(item == 11 || item == 2 || item == 5);
      ++ran;
    };
    EXPECT_EQ(run_task(task, on, known, count, {}), whole) << name;
    EXPECT_EQ(ran, 9u);
  }
}

TEST(Resume, WhatDecidesResultsIsInTheIdentity) {
  const std::filesystem::path demo = LEWIS_DEMO;
  const TestModel model(demo / "models/base");
  const Tokenizer tokenizer = Tokenizer::load(demo / "models/base");
  TaskOptions options;
  options.task = "gsm8k";
  options.data = demo / "data/math_test.jsonl";
  options.limit = 4;
  const auto id = [&](auto change) {
    TaskOptions changed = options;
    change(changed);
    return identity(prepare_task(changed, model.transformer.spec(), &tokenizer));
  };
  const std::string same = id([](TaskOptions&) {});
  EXPECT_EQ(id([](TaskOptions& o) { o.label = "another name"; }), same);
  EXPECT_NE(id([](TaskOptions& o) { o.limit = 3; }), same);
  EXPECT_NE(id([](TaskOptions& o) { o.max_new_tokens = 7; }), same);
  EXPECT_NE(id([](TaskOptions& o) { o.temperature = 0.5; }), same);
  EXPECT_NE(id([&](TaskOptions& o) { o.data = demo / "data/math_train.jsonl"; }), same);
  EXPECT_NE(id([&](TaskOptions& o) {
              o.shots = 1;
              o.shots_data = demo / "data/math_train.jsonl";
            }),
            same);
}

}  // namespace
}  // namespace lewis
