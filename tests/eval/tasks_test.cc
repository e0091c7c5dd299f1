#include "eval/tasks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>

#include "base/error.h"
#include "base/text_file.h"
#include "eval/tasks/token_loss.h"
#include "golden_file.h"
#include "task_outcome.h"
#include "temp_dir.h"

namespace lewis {
namespace {

const std::filesystem::path kLlama = LEWIS_TEST_DATA "/golden/families/llama";
const std::filesystem::path kDemo = LEWIS_DEMO;

// A file of format ids with the golden sequences, and the model that they belong to.
class Tasks : public testing::Test {
 protected:
  TaskOptions ids_task(const std::string& task) { return with_data(task, "ids", ids_lines()); }

  TaskOptions with_data(const std::string& task, const std::string& format,
                        const std::string& text) {
    TaskOptions options;
    options.task = task;
    options.format = format;
    options.data = dir_.path / ("data." + format);
    std::ofstream(options.data) << text;
    return options;
  }

  std::string ids_lines() const {
    std::string text;
    for (const auto& sequence : ids_) text += Json{{"ids", sequence}}.dump() + "\n";
    return text;
  }

  TaskOutcome run(const TaskOptions& options) { return run_whole(options, model_, nullptr); }

  // The message must hold `part`.
  void expect_error(const TaskOptions& options, ExitCode code, const std::string& part) {
    try {
      run(options);
      FAIL() << "no error; expected one about " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  }

  TempDir dir_;
  TestModel model_{kLlama};
  std::vector<std::vector<int32_t>> ids_ =
      golden_sequences(SafetensorsFile(kLlama / "golden.safetensors"));
};

double mean(const std::vector<double>& values) { return mean_of(values).mean; }

TEST_F(Tasks, LossOfIdsIsTheMeanOverItemsOfAllButTheFirst) {
  const auto losses =
      token_losses(model_.transformer, {{ScoredSequence{ids_[0], 1}, {ids_[1], 1}}}, {});
  const TaskOutcome result = run(ids_task("loss"));
  ASSERT_EQ(result.task.metrics.size(), 1u);
  EXPECT_EQ(result.task.metrics[0].key(), "answer_loss,none");
  EXPECT_FALSE(result.task.metrics[0].higher_is_better);
  EXPECT_EQ(result.values(), (std::vector<double>{mean(losses[0]), mean(losses[1])}));
  EXPECT_DOUBLE_EQ(result.summary().mean, (mean(losses[0]) + mean(losses[1])) / 2);
  EXPECT_EQ(result.task.options.label, "loss data");
  EXPECT_EQ(result.task.name, "loss_data");
  EXPECT_EQ(result.items[1].details["answer_tokens"], 95);
  EXPECT_NEAR(result.items[1].response, -95 * mean(losses[1]), 1e-9);
}

TEST_F(Tasks, LimitTakesTheFirstItems) {
  TaskOptions options = ids_task("loss");
  const std::vector<double> all = run(options).values();
  options.limit = 1;
  const std::vector<double> one = run(options).values();
  ASSERT_EQ(one.size(), 1u);
  EXPECT_NEAR(one[0], all[0], 1e-6);
}

TEST_F(Tasks, PerplexityOfWholeDocumentsIsExpOfTheMeanOverTokens) {
  TaskOptions options = with_data("perplexity", "ids",
                                  R"({"ids": [5, 9, 17]})"
                                  "\n"
                                  R"({"ids": [30, 2, 8, 1, 77, 3]})"
                                  "\n");
  options.window = 64;
  options.stride = 32;
  const auto losses = token_losses(
      model_.transformer, {{ScoredSequence{{5, 9, 17}, 1}, {{30, 2, 8, 1, 77, 3}, 1}}}, {});
  const TaskOutcome result = run(options);
  EXPECT_EQ(result.values(), (std::vector<double>{mean(losses[0]), mean(losses[1])}));
  EXPECT_NEAR(result.summary().mean, (2 * mean(losses[0]) + 5 * mean(losses[1])) / 7, 1e-12);
  EXPECT_EQ(result.task.metrics[0].kind, MetricInfo::Kind::kExpMean);
}

// The definition, token by token: scored in the first window that holds it.
TEST_F(Tasks, PerplexityScoresEachTokenOnceInTheFirstWindowThatHoldsIt) {
  TaskOptions options = ids_task("perplexity");
  for (const auto& [window, stride] :
       {std::pair<int64_t, int64_t>{32, 16}, {40, 30}, {20, 1}, {96, 8}}) {
    options.window = window;
    options.stride = stride;
    const TaskOutcome result = run(options);
    std::vector<ScoredSequence> one_by_one;
    for (const auto& ids : ids_) {
      for (int64_t t = 1; t < 96; ++t) {
        int64_t begin = 0;
        while (begin + window <= t) begin += stride;
        one_by_one.push_back(
            {{ids.begin() + begin, ids.begin() + t + 1}, static_cast<size_t>(t - begin)});
      }
    }
    double total = 0;
    for (const auto& loss : token_losses(model_.transformer, one_by_one, {})) total += loss.at(0);
    EXPECT_NEAR(result.summary().mean, total / (2 * 95), 1e-6) << window << ", " << stride;
    int64_t tokens = 0;
    for (const ItemResult& item : result.items) tokens += item.details["tokens"].get<int64_t>();
    EXPECT_EQ(tokens, 2 * 95);
  }
}

TEST_F(Tasks, ErrorsSayWhatIsWrong) {
  expect_error(with_data("los", "ids", ids_lines()), ExitCode::kUsage, "did you mean 'loss'");
  expect_error(with_data("loss", "idds", ids_lines()), ExitCode::kUsage, "did you mean 'ids'");
  expect_error(with_data("loss", "ids", ""), ExitCode::kInput, "data.ids");
  expect_error(with_data("loss", "ids", "{\"ids\": [1, 2]}\n{\"ids\": [7]}\n"), ExitCode::kInput,
               "data.ids:2: the item has no answer tokens");
  expect_error(with_data("loss", "ids", "{\"ids\": [1, 70000]}\n"), ExitCode::kInput,
               "data.ids:1: token id 70000");
  expect_error(with_data("perplexity", "ids", "{\"ids\": [1]}\n"), ExitCode::kInput, "data.ids:1");
  expect_error(with_data("loss", "gsm8k", "{\"question\": \"a\", \"answer\": \"b\"}\n"),
               ExitCode::kInput, "data.gsm8k:1: a text needs a tokenizer");
  expect_error(with_data("gsm8k", "ids", ids_lines()), ExitCode::kUsage, "format gsm8k");
  expect_error(with_data("loss", "", "{\"x\": 1}\n"), ExitCode::kUsage,
               "no format has its columns, x");
  TaskOptions missing = ids_task("loss");
  missing.data = dir_.path / "none.jsonl";
  expect_error(missing, ExitCode::kInput, "none.jsonl");
}

TEST_F(Tasks, WhatDoesNotFitTheModelIsRefused) {
  const auto positions = model_.transformer.spec().max_positions;
  const std::vector<int> zeros(static_cast<size_t>(positions) + 1, 3);
  expect_error(with_data("loss", "ids", Json{{"ids", zeros}}.dump()), ExitCode::kInput,
               "data.ids:1: the item has " + std::to_string(positions + 1) + " tokens");
  TaskOptions options = ids_task("perplexity");
  const auto with_window = [&](int64_t window, int64_t stride) {
    options.window = window;
    options.stride = stride;
    return options;
  };
  expect_error(with_window(positions + 1, 8), ExitCode::kUsage, "window");
  expect_error(with_window(1, 1), ExitCode::kUsage, "window");
  expect_error(with_window(32, 0), ExitCode::kUsage, "stride");
  expect_error(with_window(32, 32), ExitCode::kUsage, "stride");
}

// Prompts as in the specification, the examples as CPython chooses them:
// random.Random(1234).sample(range(1000), 2), twice.
TEST(Gsm8k, PromptsAreThoseOfTheHarness) {
  const std::filesystem::path test = kDemo / "data/math_test.jsonl";
  const std::filesystem::path train = kDemo / "data/math_train.jsonl";
  const TestModel model(kDemo / "models/base");
  const Tokenizer tokenizer = Tokenizer::load(kDemo / "models/base");
  TaskOptions options;
  options.task = "gsm8k";
  options.data = test;
  options.limit = 2;
  options.shots = 2;
  options.shots_data = train;
  options.max_new_tokens = 4;
  const PreparedTask task = prepare_task(options, model.transformer.spec(), &tokenizer);
  const std::string test_text = read_text_file(test), train_text = read_text_file(train);
  const auto row = [](const std::string& text, size_t i) {
    return parse_json(split_lines(text).at(i), "row");
  };
  const auto question = [](const Json& r) {
    return "Question: " + r["question"].get<std::string>() + "\nAnswer:";
  };
  const std::vector<std::vector<size_t>> examples = {{989, 796}, {451, 119}};
  ASSERT_EQ(split_lines(train_text).size(), 1000u);
  ASSERT_EQ(task.items.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    std::string prompt;
    for (size_t e : examples[i]) {
      const Json example = row(train_text, e);
      prompt += question(example) + " " + example["answer"].get<std::string>() + "\n\n";
    }
    prompt += question(row(test_text, i));
    EXPECT_EQ(task.items[i].prompt, prompt);
    EXPECT_EQ(task.items[i].doc, row(test_text, i));
    EXPECT_EQ(task.items[i].target, row(test_text, i)["answer"]);
  }
}

TEST(Gsm8k, RefusesWhatCannotBe) {
  const TestModel model(kDemo / "models/base");
  const Tokenizer tokenizer = Tokenizer::load(kDemo / "models/base");
  TaskOptions options;
  options.task = "gsm8k";
  options.data = kDemo / "data/math_test.jsonl";
  options.limit = 1;
  const auto refused = [&](const std::function<void(TaskOptions&)>& change, const Tokenizer* t) {
    TaskOptions changed = options;
    change(changed);
    EXPECT_THROW(prepare_task(changed, model.transformer.spec(), t), Error);
  };
  refused([](TaskOptions&) {}, nullptr);
  refused([](TaskOptions& o) { o.max_new_tokens = 0; }, &tokenizer);
  refused([](TaskOptions& o) { o.max_new_tokens = 1024; }, &tokenizer);  // the prompt does not fit
  refused([](TaskOptions& o) { o.shots = 1; }, &tokenizer);
  refused([](TaskOptions& o) { o.shots = 1, o.shots_data = o.data; }, &tokenizer);
  refused(
      [](TaskOptions& o) { o.shots = 1'000'000, o.shots_data = kDemo / "data/math_train.jsonl"; },
      &tokenizer);
}

}  // namespace
}  // namespace lewis
