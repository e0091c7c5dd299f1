// Prompts, targets and settings of the known tasks, against what lm-evaluation-harness makes of the
// same data (tools/record_task_prompts.py).
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/hash.h"
#include "eval/tasks.h"
#include "temp_dir.h"
#include "test_model.h"

namespace lewis {
namespace {

const std::filesystem::path kDemo = LEWIS_DEMO;

std::string sha256(const std::string& text) { return Sha256().add(text).hex(); }

class TaskPrompts : public testing::Test {
 protected:
  PreparedTask prepare(TaskOptions options) {
    ModelSpec spec = model_.transformer.spec();
    spec.max_positions = 100'000;
    if (runs_programs(options)) options.sandbox = std::make_shared<Sandbox>();
    return prepare_task(options, spec, &tokenizer_);
  }

  // A file with the rows that stand beside the recorded prompts.
  std::filesystem::path write_rows(const Json& prompts) {
    const auto file = dir_.path / "rows.jsonl";
    std::ofstream out(file);
    for (const Json& p : prompts) out << p["row"].dump() << "\n";
    return file;
  }

  void expect_same(const std::string& name, const PreparedTask& task, bool all_rows) {
    const Json& recorded = recorded_["tasks"][name];
    EXPECT_EQ(task.version, recorded["version"]);
    EXPECT_EQ(task.settings["num_fewshot"], recorded["num_fewshot"]);
    EXPECT_EQ(task.settings["until"], recorded["until"]);
    EXPECT_EQ(task.settings["max_gen_toks"], recorded["max_gen_toks"]);
    size_t row = 0;
    for (const Json& p : recorded["prompts"]) {
      const TaskItem& item = task.items.at(all_rows ? p["document"].get<size_t>() : row++);
      EXPECT_TRUE(item.prompt.ends_with(p["end"].get<std::string>())) << item.prompt;
      EXPECT_EQ(sha256(item.prompt), p["sha256"]) << name << " " << item.where;
      EXPECT_EQ(sha256(item.target), p["target_sha256"]) << name << " " << item.target;
    }
  }

  TempDir dir_;
  Json recorded_ = read_json(LEWIS_TEST_DATA "/eval/task_prompts.json");
  TestModel model_{kDemo / "models/base"};
  Tokenizer tokenizer_ = Tokenizer::load(kDemo / "models/base");
};

TEST_F(TaskPrompts, QuestionsAreThoseOfTheHarness) {
  TaskOptions options;
  options.task = "gsm8k";
  options.data = kDemo / "data/math_test.jsonl";
  options.shots_data = kDemo / "data/math_train.jsonl";
  expect_same("gsm8k", prepare(options), true);
  options.task = "gsm8k_cot";
  options.shots_data.clear();
  expect_same("gsm8k_cot", prepare(options), true);
}

TEST_F(TaskPrompts, ProgramsAreThoseOfTheHarness) {
  for (const std::string name : {"mbpp", "humaneval"}) {
    TaskOptions options;
    options.task = name;
    options.data = write_rows(recorded_["tasks"][name]["prompts"]);
    expect_same(name, prepare(options), false);
  }
}

// Data are found by name; of the whole of MBPP, task_id 11 to 510 are asked.
TEST_F(TaskPrompts, DataAreFoundInTheirFolder) {
  TaskOptions options;
  options.task = "mbpp";
  options.data_folder = dir_.path;
  try {
    prepare(options);
    FAIL() << "there is no data";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    const std::string message = e.what();
    for (const char* part : {"mbpp.jsonl", "google-research-datasets/mbpp", "--data-dir"}) {
      EXPECT_NE(message.find(part), message.npos) << message;
    }
  }
  std::ofstream out(dir_.path / "mbpp.jsonl");
  for (int id = 1; id <= 974; ++id) {
    out << Json{{"task_id", id}, {"text", "t"}, {"test_list", {"1", "2", "3"}}}.dump() << "\n";
  }
  out.close();
  const PreparedTask task = prepare(options);
  ASSERT_EQ(task.items.size(), 500u);
  EXPECT_EQ(task.items.front().doc["task_id"], 11);
  EXPECT_EQ(task.items.back().doc["task_id"], 510);
  EXPECT_EQ(task.name, "mbpp");
}

TEST_F(TaskPrompts, GsmNeedsItsTrainingSetForShots) {
  std::filesystem::copy(kDemo / "data/math_test.jsonl", dir_.path / "gsm8k_test.jsonl");
  TaskOptions options;
  options.task = "gsm8k";
  options.data_folder = dir_.path;
  EXPECT_THROW(prepare(options), Error);
  std::filesystem::copy(kDemo / "data/math_train.jsonl", dir_.path / "gsm8k_train.jsonl");
  expect_same("gsm8k", prepare(options), true);
}

TEST_F(TaskPrompts, BadRowsAreRefused) {
  const std::pair<const char*, const char*> kRows[] = {
      {"mbpp", R"({"text": "t", "test_list": ["1", "2"]})"},
      {"mbpp", R"({"text": "t", "test_list": "123"})"},
      {"mbpp", R"({"text": 1, "test_list": ["1", "2", "3"]})"},
      {"humaneval", R"({"prompt": "p", "test": "t"})"},
      {"humaneval", R"(["prompt"])"},
      {"humaneval", ""}};
  for (const auto& [task, row] : kRows) {
    TaskOptions options;
    options.task = task;
    options.data = dir_.path / "bad.jsonl";
    std::ofstream(options.data) << row << "\n";
    EXPECT_THROW(prepare(options), Error) << row;
  }
}

}  // namespace
}  // namespace lewis
