// Results files: the harness's own (tests/data/eval/lm_eval, written by lm_eval 0.4.13, see
// bench/compare_lm_eval.py) and ours.
#include "eval/results/results.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "base/text_file.h"
#include "task_outcome.h"
#include "temp_dir.h"

namespace lewis {
namespace {

const std::filesystem::path kDemo = LEWIS_DEMO;
const std::filesystem::path kHarness = LEWIS_TEST_DATA "/eval/lm_eval";

ModelResults with_scores(const std::string& name, const std::vector<double>& scores,
                         const std::vector<std::string>& docs) {
  ModelResults model;
  model.name = model.model = name;
  TaskResults task;
  task.name = task.label = "t";
  task.items = scores.size();
  for (const std::string& doc : docs) task.keys.push_back({doc, "p"});
  MetricResults metric;
  metric.info = {"acc", "none", MetricInfo::Kind::kShare, true};
  for (const double s : scores) metric.scores.push_back({s});
  metric.value = mean_of(metric.scores).mean;
  task.metrics = {metric};
  model.tasks = {task};
  return model;
}

const MetricResults& metric(const ModelResults& model) { return model.tasks.at(0).metrics.at(0); }

TEST(Results, ReadsTheHarnesssFiles) {
  const ModelResults model = read_results(kHarness);
  EXPECT_EQ(model.model, "demo/models/math");
  EXPECT_EQ(model.name, "math");
  EXPECT_EQ(model.program, "lm_eval 0.4.13");
  EXPECT_GT(model.date, 1.7e9);
  ASSERT_EQ(model.tasks.size(), 1u);
  const TaskResults& task = model.tasks[0];
  EXPECT_EQ(task.name, "gsm8k_demo");
  EXPECT_EQ(task.shots, 0);
  EXPECT_EQ(task.items, 20u);
  ASSERT_EQ(task.metrics.size(), 2u);
  for (const MetricResults& m : task.metrics) {
    EXPECT_EQ(m.info.name, "exact_match");
    EXPECT_EQ(m.info.kind, MetricInfo::Kind::kShare);
    EXPECT_TRUE(m.info.higher_is_better);
    ASSERT_EQ(m.scores.size(), 20u) << m.info.key();
    const Mean mean = mean_of(m.scores);
    EXPECT_NEAR(m.value, mean.mean, 1e-12);
    EXPECT_NEAR(m.standard_error.value(), mean.standard_error, 1e-12);  // theirs is ours
  }
}

// The same model and items here: documents, prompts, the task's hash and every score agree.
TEST(Results, OursAreTheHarnesss) {
  const TestModel model(kDemo / "models/math");
  const Tokenizer tokenizer = Tokenizer::load(kDemo / "models/math");
  TaskOptions options;
  options.task = "gsm8k";
  options.data = kDemo / "data/math_test.jsonl";
  options.limit = 20;
  const TaskOutcome outcome = run_whole(options, model, &tokenizer);
  const TaskResults ours = summarize(outcome.task, outcome.items);
  const TaskResults theirs = read_results(kHarness).tasks.at(0);
  EXPECT_EQ(ours.hash, theirs.hash);
  EXPECT_EQ(ours.keys, theirs.keys);
  ASSERT_EQ(ours.metrics.size(), theirs.metrics.size());
  for (size_t m = 0; m < ours.metrics.size(); ++m) {
    EXPECT_EQ(ours.metrics[m].info.key(), theirs.metrics[m].info.key());
    EXPECT_EQ(ours.metrics[m].scores, theirs.metrics[m].scores);
  }
  // Field by field, the samples.
  std::vector<Json> own, other;
  const std::string lines = samples_lines(outcome.task, outcome.items);
  for (const std::string_view line : split_lines(lines)) own.push_back(parse_json(line, "ours"));
  for (const auto& entry : std::filesystem::directory_iterator(kHarness)) {
    if (entry.path().extension() != ".jsonl") continue;
    const std::string text = read_text_file(entry.path());
    for (const std::string_view line : split_lines(text))
      other.push_back(parse_json(line, "theirs"));
  }
  ASSERT_EQ(own.size(), other.size());
  for (size_t i = 0; i < own.size(); ++i) {
    for (const auto& [key, value] : other[i].items()) {
      if (key == "resps" || key == "arguments") continue;
      EXPECT_EQ(own[i][key], value) << i << " " << key;
    }
    EXPECT_EQ(own[i]["arguments"]["gen_args_0"]["arg_0"],
              other[i]["arguments"]["gen_args_0"]["arg_0"]);
    EXPECT_EQ(own[i]["resps"], other[i]["resps"]) << i;
  }
}

TEST(Results, AreReadAsTheyWereWritten) {
  const TempDir dir;
  std::vector<ModelResults> models = {with_scores("a", {0, 1, 1, 0}, {"1", "2", "3", "4"}),
                                      with_scores("b", {1, 1, 1, 0}, {"1", "2", "3", "4"})};
  MetricResults perplexity;
  perplexity.info = {"perplexity", "none", MetricInfo::Kind::kExpMean, false};
  perplexity.scores = {{1.5, 10}, {2.25, 7}, {0.1, 3}, {1.0 / 3, 1}};
  perplexity.value = std::exp(mean_of(perplexity.scores).mean);
  perplexity.standard_error = 0.25;
  models[1].tasks[0].metrics.push_back(perplexity);
  models[1].tasks[0].shots = 5;
  models[1].program = "lewis 9";
  compare_models(models, 0);
  const auto file = dir.path / "results_2026-01-01T00-00-00.000000.json";
  std::ofstream(file) << results_json(models[1]).dump(2);
  const ModelResults back = read_results(dir.path);
  EXPECT_EQ(back.name, "b");
  EXPECT_EQ(back.program, "lewis 9");
  EXPECT_EQ(back.baseline, "a");
  ASSERT_EQ(back.tasks.size(), 1u);
  EXPECT_EQ(back.tasks[0].keys, models[1].tasks[0].keys);
  EXPECT_EQ(back.tasks[0].shots, 5);
  for (const size_t m : {0, 1}) {
    const MetricResults &x = back.tasks[0].metrics.at(m), &y = models[1].tasks[0].metrics[m];
    EXPECT_EQ(x.info.kind, y.info.kind);
    EXPECT_EQ(x.info.higher_is_better, y.info.higher_is_better);
    EXPECT_EQ(x.scores, y.scores);
    EXPECT_EQ(x.value, y.value);
    EXPECT_EQ(x.standard_error, y.standard_error);
  }
}

TEST(Results, OnlyCommonItemsAreCompared) {
  // Documents 2 and 3 and one of the two 7s of b are in a.
  std::vector<ModelResults> models = {with_scores("a", {0, 1, 0, 1}, {"1", "2", "3", "7"}),
                                      with_scores("b", {0, 0, 1, 1, 1}, {"7", "7", "3", "2", "9"})};
  compare_models(models, 0);
  const Comparison& c = metric(models[1]).comparison.value();
  EXPECT_EQ(c.difference.items, 3u);
  EXPECT_DOUBLE_EQ(c.difference.difference, (1 + 0 - 1) / 3.0);  // 3: +1, 2: 0, 7: -1
  EXPECT_TRUE(c.mcnemar);
  EXPECT_EQ(c.p, 1);
  EXPECT_FALSE(metric(models[0]).comparison.has_value());
  std::vector<ModelResults> strangers = {with_scores("a", {0, 1}, {"1", "2"}),
                                         with_scores("b", {0, 1}, {"3", "4"})};
  compare_models(strangers, 0);
  EXPECT_FALSE(metric(strangers[1]).comparison.has_value());
}

TEST(Results, WhatIsComparedTogetherIsCorrectedTogether) {
  std::vector<double> base(40, 0), better(40, 0);
  std::vector<std::string> docs;
  for (size_t i = 0; i < base.size(); ++i) docs.push_back(std::to_string(i));
  std::fill_n(better.begin(), 6, 1);  // p = 2 / 2^6 = 0.03125
  std::vector<ModelResults> two = {with_scores("a", base, docs), with_scores("b", better, docs)};
  compare_models(two, 0);
  EXPECT_DOUBLE_EQ(metric(two[1]).comparison->p_corrected, 0.03125);
  EXPECT_TRUE(metric(two[1]).comparison->shown());
  std::vector<ModelResults> three = two;
  three.push_back(with_scores("c", better, docs));
  compare_models(three, 0);
  EXPECT_DOUBLE_EQ(metric(three[1]).comparison->p, 0.03125);
  EXPECT_DOUBLE_EQ(metric(three[1]).comparison->p_corrected, 0.0625);
  EXPECT_FALSE(metric(three[1]).comparison->shown());
  // A second filter that says the same of every item is no further comparison.
  for (ModelResults& model : two) {
    model.tasks[0].metrics.push_back(model.tasks[0].metrics[0]);
    model.tasks[0].metrics[1].info.filter = "again";
  }
  compare_models(two, 0);
  EXPECT_DOUBLE_EQ(two[1].tasks[0].metrics[0].comparison->p_corrected, 0.03125);
  EXPECT_DOUBLE_EQ(two[1].tasks[0].metrics[1].comparison->p_corrected, 0.03125);
}

TEST(Results, RefusesWhatIsNoResult) {
  const TempDir dir;
  const auto refused = [&](const std::string& text, const std::string& part,
                           const std::string& samples = "") {
    const auto file = dir.path / "results_x.json";
    std::ofstream(file) << text;
    std::ofstream(dir.path / "samples_t_x.jsonl") << samples;
    try {
      read_results(file);
      FAIL() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput);
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  refused("[1]", "'results' is missing");
  refused("{", "results_x.json");
  refused(R"({"results": 4})", "'results' must be an object");
  refused(R"({"results": {"t": 4}})", "results.t");
  refused(R"({"results": {"t": {"acc,none": "good"}}})", "must be a number");
  refused(R"({"results": {"t": {"acc": 0.5}}})", "NAME,FILTER");
  const std::string good = R"({"results": {"t": {"acc,none": 0.5}}})";
  refused(good, "samples_t_x.jsonl:1", "{\"doc\": 1}\n");
  refused(good, "item 3 is there twice",
          "{\"doc_id\": 3, \"acc\": 1}\n{\"doc_id\": 3, \"acc\": 0}\n");
  const auto own = [&](const std::string& items) {
    return R"({"results": {"t": {"acc,none": 0.5}}, "lewis": {"tasks": {"t": {"items": )" + items +
           "}}}}";
  };
  refused(own(R"({"doc_hash": ["a"], "prompt_hash": []})"), "of one length");
  refused(own(R"({"doc_hash": ["a"], "prompt_hash": ["b"], "values": {"acc,none": [1, 0]}})"),
          "a value for each");
  refused(own(R"({"doc_hash": ["a"], "prompt_hash": ["b"], "values": {"acc,none": [1]}})"),
          "is not its result");
  std::filesystem::remove_all(dir.path / "results_x.json");
  try {
    read_results(dir.path);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("holds no results_"), std::string::npos);
  }
}

// Scores that the result was not made from (corpus metrics) are not compared; lists are means.
TEST(Results, SamplesThatDoNotExplainTheResultAreLeftOut) {
  const TempDir dir;
  std::ofstream(dir.path / "results_x.json")
      << R"({"results": {"t": {"bleu,none": 31.5, "inst_level_strict_acc,none": 0.6}}})";
  std::ofstream(dir.path / "samples_t_x.jsonl")
      << "{\"doc_id\": 1, \"bleu\": [0.5, 0.25], \"inst_level_strict_acc\": [true, false, true]}\n"
      << "{\"doc_id\": 0, \"bleu\": 0.5, \"inst_level_strict_acc\": [true, false]}\n";
  const TaskResults task = read_results(dir.path / "results_x.json").tasks.at(0);
  EXPECT_TRUE(task.metrics[0].scores.empty());
  EXPECT_EQ(task.metrics[1].scores, (std::vector<ItemScore>{{0.5, 2}, {2.0 / 3, 3}}));
  EXPECT_EQ(task.keys[0].doc, "doc 0");
}

TEST(Results, NamesAreTheHarnesss) {
  EXPECT_EQ(sanitized_name("demo/models/math"), "demo__models__math");
  EXPECT_EQ(sanitized_name("/a//b:c"), "__a__b__c");
  EXPECT_EQ(sanitized_name(".."), "__..");
  EXPECT_EQ(sanitized_name("../x"), "..__x");
  const std::string date = date_id(1795561817.25);
  EXPECT_EQ(date.size(), 26u);
  EXPECT_EQ(date.substr(19), ".250000");
}

}  // namespace
}  // namespace lewis
