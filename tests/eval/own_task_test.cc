#include "eval/tasks/own_task.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "eval/tasks/token_loss.h"
#include "task_outcome.h"
#include "temp_dir.h"
#include "text/regex.h"

namespace lewis {
namespace {

const std::filesystem::path kDemo = LEWIS_DEMO;

TEST(Template, FieldsListsAndBraces) {
  const Json row = {{"a", "x{b}"}, {"n", 3}, {"list", {"p", "q"}}, {"deep", {{"k", 1}}}};
  const std::string text = "made";
  EXPECT_EQ(fill_template("{a}-{n}-{list[1]}-{{a}}-{generated}", row, &text, "w"),
            "x{b}-3-q-{a}-made");
  for (const char* bad : {"{no}", "{generated}", "{deep}", "{list}", "{list[2]}"}) {
    EXPECT_THROW(fill_template(bad, row, nullptr, "w"), Error) << bad;
  }
  for (const char* bad : {"{a", "a}", "{list[x]}", "{list[1}", "{list[]}"}) {
    EXPECT_THROW(fill_template(bad, row, nullptr, "w"), Error) << bad;
  }
}

TEST(RegexOfRust, MatchesGroupsAndErrors) {
  const Regex regex("(a)(b)?");
  const auto matches = regex.find_all("ab a é a");
  ASSERT_EQ(matches.size(), 3u);
  EXPECT_EQ(matches[0][2], "b");
  EXPECT_FALSE(matches[1][2].has_value());
  EXPECT_EQ(regex.groups(), 3u);
  EXPECT_EQ(Regex(",").split("1,2,,").size(), 4u);
  EXPECT_TRUE(Regex(escape_regex("a.b*(c)")).found_in("xa.b*(c)"));
  EXPECT_FALSE(Regex(escape_regex("a.b")).found_in("axb"));
  EXPECT_THROW(Regex("(a"), Error);
  EXPECT_THROW(regex.find_all("\xff"), Error);
}

class OwnTasks : public testing::Test {
 protected:
  TaskOutcome run(const OwnTask& task, uint64_t limit) {
    TaskOptions options;
    options.own = std::make_shared<OwnTask>(task);
    options.limit = limit;
    if (task.runs_programs()) options.sandbox = std::make_shared<Sandbox>();
    return run_whole(options, model_, &tokenizer_);
  }

  TestModel model_{kDemo / "models/math"};
  Tokenizer tokenizer_ = Tokenizer::load(kDemo / "models/math");
};

// gsm8k, said in a user's words, gives what gsm8k gives.
TEST_F(OwnTasks, Gsm8kInOtherWords) {
  OwnTask own;
  own.name = "own";
  own.data = kDemo / "data/math_test.jsonl";
  own.shots_data = kDemo / "data/math_train.jsonl";
  own.prompt = "Question: {question}\nAnswer:";
  own.target = "{answer}";
  own.stops = {"Question:", "</s>", "<|im_end|>"};
  own.shots = 2;
  own.answer = {"#### (\\-?[0-9\\.\\,]+)", false, 1};
  own.remove = {",", "\\$", "(?s).*#### ", "\\.$"};
  own.ignore_case = true;
  own.strip = false;
  TaskOptions gsm8k;
  gsm8k.task = "gsm8k";
  gsm8k.data = own.data;
  gsm8k.shots_data = own.shots_data;
  gsm8k.shots = 2;
  gsm8k.limit = 25;
  const TaskOutcome a = run(own, 25), b = run_whole(gsm8k, model_, &tokenizer_);
  ASSERT_EQ(a.items.size(), 25u);
  EXPECT_EQ(a.values(), b.values());
  for (size_t i = 0; i < 25; ++i) {
    EXPECT_EQ(a.task.items[i].prompt, b.task.items[i].prompt);
    EXPECT_EQ(a.items[i].filtered[0], b.items[i].filtered[0]);
  }
  // The expression finds the answer in a target as well.
  own.remove = {",", "\\$", "\\.$"};
  EXPECT_EQ(run(own, 25).values(), b.values());
  const double right = a.summary().mean;
  EXPECT_GT(right, 0);
  EXPECT_LT(right, 1);
}

// The program is made of the row and need not depend on what the model writes.
TEST_F(OwnTasks, ProgramsPassOrFail) {
  const Sandbox probe;
  if (!probe.cannot_run().empty()) GTEST_SKIP() << probe.cannot_run();
  const TempDir dir;
  std::ofstream(dir.path / "rows.jsonl") << R"({"a": 2, "b": 2})"
                                         << "\n"
                                         << R"({"a": 2, "b": 3})"
                                         << "\n";
  OwnTask own;
  own.name = "own";
  own.data = dir.path / "rows.jsonl";
  own.prompt = "Write.";
  own.max_new_tokens = 2;
  own.program = "text = '''{generated}'''\na = {a}";
  own.tests = "assert a == {b}";
  const TaskOutcome outcome = run(own, 0);
  EXPECT_EQ(outcome.values(), (std::vector<double>{1, 0}));
  EXPECT_EQ(outcome.items[0].details["verdict"], "passed");
  EXPECT_EQ(outcome.items[1].details["verdict"], "failed");
  EXPECT_EQ(outcome.items[1].details["reason"], "AssertionError");
}

TEST_F(OwnTasks, BadOnesAreRefusedBeforeTheModelRuns) {
  OwnTask own;
  own.name = "own";
  own.data = kDemo / "data/math_test.jsonl";
  own.prompt = "{question}";
  own.target = "{answer}";
  const auto refused = [&](void (*change)(OwnTask&)) {
    OwnTask changed = own;
    change(changed);
    EXPECT_THROW(run(changed, 1), Error);
  };
  refused([](OwnTask& t) { t.answer.regex = "("; });
  refused([](OwnTask& t) { t.answer = {"(a)", false, 2}; });
  refused([](OwnTask& t) { t.remove = {"["}; });
  refused([](OwnTask& t) { t.prompt = "{nothing}"; });
  refused([](OwnTask& t) { t.tests = "{nothing}"; });
  refused([](OwnTask& t) { t.data = "nowhere.jsonl"; });
  refused([](OwnTask& t) { t.shots = 1; });
}

// KL by its definition from two models' logits over a few tokens, in double.
TEST(TokenDivergences, AgreeWithTheDefinition) {
  const TestModel model(kDemo / "models/math"), expert(kDemo / "models/code");
  const std::vector<std::vector<int32_t>> ids = {{5, 9, 17, 3, 40}, {7, 7, 8}};
  const std::vector<ScoredSequence> sequences = {{ids[0], 2}, {ids[1], 1}};
  const auto result = token_divergences(model.transformer, expert.transformer, sequences, {});
  ASSERT_EQ(result.size(), 2u);
  ASSERT_EQ(result[0].size(), 3u);
  ASSERT_EQ(result[1].size(), 2u);
  // -log p(j) of every token j behind the same text, by the function that scores single tokens.
  const auto all_losses = [](const TestModel& m, std::vector<int32_t> before) {
    std::vector<ScoredSequence> every;
    before.push_back(0);
    for (int32_t j = 0; j < m.transformer.spec().vocab; ++j) {
      before.back() = j;
      every.push_back({before, before.size() - 1});
    }
    return token_losses(m.transformer, every, {});
  };
  const auto p = all_losses(expert, {5, 9, 17, 3}), q = all_losses(model, {5, 9, 17, 3});
  double divergence = 0;
  for (size_t j = 0; j < p.size(); ++j) divergence += std::exp(-p[j][0]) * (q[j][0] - p[j][0]);
  EXPECT_NEAR(result[0][2], divergence, 1e-5);
  EXPECT_GT(divergence, 1e-4);
  for (const auto& sequence :
       token_divergences(model.transformer, model.transformer, sequences, {})) {
    for (double value : sequence) EXPECT_NEAR(value, 0, 1e-12);
  }
}

}  // namespace
}  // namespace lewis
