#include "app/own_task.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "temp_dir.h"

namespace lewis {
namespace {

class OwnTaskFile : public testing::Test {
 protected:
  OwnTask read(const std::string& text) {
    std::ofstream(file_) << text;
    return read_own_task(file_);
  }

  void expect_refused(const std::string& text, const std::string& message) {
    try {
      read(text);
      ADD_FAILURE() << "taken: " << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << e.what();
    }
  }

  TempDir dir_;
  std::filesystem::path file_ = dir_.path / "mine.yaml";
};

TEST_F(OwnTaskFile, AllKeys) {
  const OwnTask task = read(R"(
data: a.jsonl
prompt: "Q: {q}\nA:"
target: "{a}"
delimiter: ""
stops: ["\n", "Q:"]
max_new_tokens: 7
shots: 3
shots_data: /b.jsonl
shots_choice: first
answer: {regex: '(\d+)', match: last, group: 1}
compare: {remove: [',', '\$'], ignore_case: true, strip: false}
)");
  EXPECT_EQ(task.name, "mine");
  EXPECT_EQ(task.data, dir_.path / "a.jsonl");
  EXPECT_EQ(task.shots_data, "/b.jsonl");
  EXPECT_EQ(task.prompt, "Q: {q}\nA:");
  EXPECT_EQ(task.delimiter, "");
  EXPECT_EQ(task.stops, (std::vector<std::string>{"\n", "Q:"}));
  EXPECT_EQ(task.max_new_tokens, 7);
  EXPECT_EQ(task.shots, 3u);
  EXPECT_TRUE(task.shots_in_order && task.answer.last && task.ignore_case && !task.strip);
  EXPECT_EQ(task.answer.group, 1u);
  EXPECT_EQ(task.remove, (std::vector<std::string>{",", "\\$"}));
  EXPECT_FALSE(task.runs_programs());
  const OwnTask program = read("task: p\ndata: a\nprompt: x\npython: {tests: 'assert f()'}\n");
  EXPECT_TRUE(program.runs_programs());
  EXPECT_EQ(program.program, "{generated}");
}

TEST_F(OwnTaskFile, MistakesAreNamedWithTheirLine) {
  const std::string good = "data: a\nprompt: x\ntarget: z\n";
  read(good);
  expect_refused(good + "stop: ['a']\n",
                 "mine.yaml:4: unknown key 'stop' in the task; did you mean");
  expect_refused(good + "answer: {regexp: a}\n", "unknown key 'regexp' in answer");
  expect_refused(good + "answer: {regex: a, match: middle}\n", "known: first, last");
  expect_refused(good + "max_new_tokens: 0\n", "max_new_tokens must be a whole number from 1");
  expect_refused(good + "shots: 1.5\n", "shots must be a whole number");
  expect_refused(good + "shots: 2\n", "'shots' need 'shots_data'");
  expect_refused(good + "stops: a\n", "stops must be a list");
  expect_refused(good + "compare: {strip: maybe}\n", "strip must be true or false");
  expect_refused(good + "python: {tests: ''}\n", "the tests are empty");
  expect_refused(good + "python: {tests: a, program: b}\n", "no {generated}");
  expect_refused(good + "python: {tests: a}\nanswer: {regex: a}\n", "exclude each other");
  expect_refused("data: a\nprompt: x\n", "there is no 'target'");
  expect_refused("prompt: x\ntarget: z\n", "there is no 'data'");
  expect_refused("data: a\ntarget: z\n", "'prompt' is missing");
  expect_refused("- a\n", "must be a map");
}

}  // namespace
}  // namespace lewis
