// Several outputs of one recipe: which folders a pattern means, which weights an average or a table
// gives, and what is refused.
#include "recipe/outputs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numbers>
#include <numeric>

#include "base/error.h"
#include "base/natural_order.h"
#include "recipe/averages.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

TEST(NaturalOrder, NumbersCountAsNumbers) {
  const std::vector<std::string> sorted = {
      "a",       "ckpt-0",     "ckpt-7",      "ckpt-07", "ckpt-8",
      "ckpt-10", "ckpt-10-b2", "ckpt-10-b10", "ckpt-99", "ckpt-100000000000000000000000",
      "x1y2",    "x1y10"};
  for (size_t i = 0; i < sorted.size(); ++i) {
    for (size_t j = 0; j < sorted.size(); ++j) {
      if (sorted[i] == "ckpt-7" && sorted[j] == "ckpt-07") continue;  // only told apart by bytes
      if (sorted[i] == "ckpt-07" && sorted[j] == "ckpt-7") continue;
      EXPECT_EQ(comes_before(sorted[i], sorted[j]), i < j) << sorted[i] << " " << sorted[j];
    }
  }
  EXPECT_NE(comes_before("ckpt-7", "ckpt-07"), comes_before("ckpt-07", "ckpt-7"));
}

// What a trainer would hold that averages while it trains, by the papers' recursions.
double ema_of(const std::vector<double>& x, double alpha) {
  double mean = x[0];
  for (size_t i = 1; i < x.size(); ++i) mean = alpha * x[i] + (1 - alpha) * mean;
  return mean;
}

double mean_by(const std::vector<double>& weights, const std::vector<double>& x) {
  return std::inner_product(x.begin(), x.end(), weights.begin(), 0.0) /
         std::accumulate(weights.begin(), weights.end(), 0.0);
}

TEST(Averages, FollowTheRecursionsOfTheirPapers) {
  std::vector<double> x = {3, -1, 4, 1, -5, 9, 2.5};
  for (size_t n = 1; n <= x.size(); ++n) {
    const std::vector<double> some(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(n));
    for (const double alpha : {0.1, 0.25, 0.9, 1.0})
      EXPECT_NEAR(mean_by(average_weights(Average::kEma, n, alpha), some), ema_of(some, alpha),
                  1e-12);
    double weighted = 0, plain = 0;
    for (size_t i = 0; i < n; ++i) {
      weighted += static_cast<double>(i + 1) * some[i];
      plain += some[i];
    }
    const auto count = static_cast<double>(n);
    EXPECT_NEAR(mean_by(average_weights(Average::kWma, n, 1), some),
                weighted * 2 / (count * (count + 1)), 1e-12);
    for (const Average a :
         {Average::kUniform, Average::kLawa, Average::kPma, Average::kLinearDecay})
      EXPECT_NEAR(mean_by(average_weights(a, n, 1), some), plain / count, 1e-12);
  }
}

// A run with a constant learning rate ends each step at a checkpoint; the same updates under a
// learning rate that decays from the first checkpoint on end where the merge is (WSM).
TEST(Averages, DecaysReplayALearningRate) {
  const std::vector<double> updates = {0.5, -2, 1, 0.25, 3, -1, 0.125, 2};
  std::vector<double> checkpoints = {10};
  for (const double u : updates) checkpoints.push_back(checkpoints.back() - u);
  const auto n = static_cast<double>(checkpoints.size());
  const auto replayed = [&](const auto& rate) {
    double x = checkpoints[0];
    for (size_t i = 0; i < updates.size(); ++i)
      x -= rate(static_cast<double>(i + 1) / n) * updates[i];
    return x;
  };
  const auto merged = [&](Average a) {
    return mean_by(average_weights(a, checkpoints.size(), 1), checkpoints);
  };
  EXPECT_NEAR(merged(Average::kLinearDecay), replayed([](double x) { return 1 - x; }), 1e-12);
  EXPECT_NEAR(merged(Average::kSqrtDecay), replayed([](double x) { return 1 - std::sqrt(x); }),
              1e-12);
  EXPECT_NEAR(merged(Average::kCosineDecay),
              replayed([](double x) { return 0.5 + 0.5 * std::cos(std::numbers::pi * x); }), 1e-10);
}

TEST(Averages, WindowsEndAtTheNewest) {
  using Places = std::vector<size_t>;
  EXPECT_EQ((Window{.every = 2}.of(5)), (Places{0, 2, 4}));
  EXPECT_EQ((Window{.every = 2}.of(6)), (Places{1, 3, 5}));
  EXPECT_EQ((Window{.last = 3}.of(5)), (Places{2, 3, 4}));
  EXPECT_EQ((Window{.last = 4, .every = 3}.of(9)), (Places{5, 8}));
  EXPECT_EQ((Window{.first = 3, .every = 2}.of(9)), (Places{0, 2}));
  EXPECT_EQ((Window{.every = 100}.of(3)), (Places{2}));
  EXPECT_EQ((Window{.last = 6}.of(5)), Places());
}

class OutputsTest : public testing::Test {
 protected:
  OutputsTest() {
    for (int step = 1; step <= 12; ++step)
      fs::create_directories(dir_.path / "run" / fmt::format("step-{}", step));
    fs::create_directories(dir_.path / "other");
    std::ofstream(dir_.path / "run" / "step-13") << "a file";
  }
  Recipe parse(const std::string& text) const { return parse_recipe(text, dir_.path / "r.yml"); }
  std::vector<std::string> models(const std::string& map) const {
    std::vector<std::string> names;
    for (const RecipeModel& m :
         parse("merge_method: linear\nmodels: " + map + "\nparameters: {weight: 1}\n").models)
      names.push_back(m.model);
    return names;
  }
  void expect_refused(const std::string& text, ExitCode code, const std::string& said) const {
    try {
      parse(text);
      FAIL() << "accepted; expected: " << said << "\n" << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
  }
  void refused(const std::string& outputs, const std::string& said,
               ExitCode code = ExitCode::kUsage) const {
    expect_refused(kHead + "outputs:\n" + outputs, code, said);
  }

  const std::string kHead = "merge_method: linear\nmodels: {glob: \"run/step-*\", last: 4}\n";
  TempDir dir_;
};

TEST_F(OutputsTest, GlobsAreOrderedByNumber) {
  const auto all = models("{glob: \"run/step-*\"}");
  ASSERT_EQ(all.size(), 12u) << "the file step-13 is no model";
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], fmt::format("run/step-{}", i + 1));
  using Names = std::vector<std::string>;
  EXPECT_EQ(models("{glob: \"run/step-*\", every: 5}"),
            (Names{"run/step-2", "run/step-7", "run/step-12"}));
  EXPECT_EQ(models("{glob: \"run/step-?\", last: 2}"), (Names{"run/step-8", "run/step-9"}));
  EXPECT_EQ(models("{glob: \"run/step-1[01]\"}"), (Names{"run/step-10", "run/step-11"}));
  EXPECT_EQ(models("{glob: " + (dir_.path / "r?n" / "step-3").string() + "}"),
            (Names{(dir_.path / "run" / "step-3").string()}));
  const Recipe recipe = parse(
      "merge_method: linear\nmodels: {glob: \"run/step-*\", every: 5}\nparameters: {weight: 1}\n");
  ASSERT_EQ(recipe.notes.size(), 1u);
  EXPECT_NE(recipe.notes[0].find("3 of the 12 folders"), std::string::npos) << recipe.notes[0];
  EXPECT_EQ(recipe.models[2].folder, dir_.path / "run" / "step-12");
}

TEST_F(OutputsTest, WeightsOfEachOutput) {
  std::ofstream(dir_.path / "t.csv")
      << "# a table\nmodel,a,b\nrun/step-10,0.5,1\nstep-12,0.5,-1e-1\n";
  const Recipe recipe =
      parse(kHead +
            "outputs:\n- {name: mean, average: uniform}\n- {name: ema, average: ema, "
            "alpha: 0.5}\n- {name: lawa, average: lawa, last: 2}\n- {name: pma, "
            "average: pma, last: 4, every: 2}\n- {name: wma, average: wma}\n- {name: "
            "hand, weights: [1, 0, 2, 0.5]}\n- {name: b, weights: t.csv}\n");
  using Weights = std::vector<double>;
  ASSERT_EQ(recipe.outputs.size(), 7u);
  EXPECT_EQ(recipe.outputs[0].weights, (Weights{1, 1, 1, 1}));
  EXPECT_EQ(recipe.outputs[1].weights, (Weights{0.125, 0.125, 0.25, 0.5}));
  EXPECT_EQ(recipe.outputs[2].weights, (Weights{0, 0, 1, 1}));
  EXPECT_EQ(recipe.outputs[3].weights, (Weights{0, 1, 0, 1}));
  EXPECT_EQ(recipe.outputs[4].weights, (Weights{1, 2, 3, 4}));
  EXPECT_EQ(recipe.outputs[5].weights, (Weights{1, 0, 2, 0.5}));
  EXPECT_EQ(recipe.outputs[6].weights, (Weights{0, 1, 0, -0.1}));
  const Recipe table = parse(kHead + "outputs: t.csv\n");
  ASSERT_EQ(table.outputs.size(), 2u);
  EXPECT_EQ(table.outputs[0].name, "a");
  EXPECT_EQ(table.outputs[0].weights, (Weights{0, 0.5, 0, 0.5}));
  EXPECT_EQ(table.outputs[1].weights, recipe.outputs[6].weights);
  // Printed and read again, the outputs are the same; alone, each is a plain recipe.
  const Recipe again = parse(to_yaml(recipe, false));
  EXPECT_EQ(to_yaml(again, false), to_yaml(recipe, false));
  const Recipe one = parse(recipe_of_output(recipe, 3).text);
  EXPECT_TRUE(one.outputs.empty());
  EXPECT_EQ(resolve(one, "weight", 3, "x", 0), 1);
  EXPECT_EQ(resolve(one, "weight", 2, "x", 0), 0);
  EXPECT_THROW(to_yaml(recipe, true), Error) << "mergekit has no outputs";
  const auto shares = shares_of(recipe, 5);
  ASSERT_EQ(shares.size(), 3u);
  EXPECT_EQ(shares[0].model, "run/step-9");
  EXPECT_DOUBLE_EQ(shares[2].share, 0.5 / 3.5);
}

TEST_F(OutputsTest, WhatIsRefused) {
  refused("- {name: a, average: emma, alpha: 1}\n", "ema");
  refused("- {name: a, average: ema}\n", "alpha");
  refused("- {name: a, average: ema, alpha: 0}\n", "above 0");
  refused("- {name: a, average: ema, alpha: 1.5}\n", "alpha");
  refused("- {name: a, average: uniform, alpha: 0.5}\n", "belongs to average: ema");
  refused("- {name: a, average: lawa}\n", "needs last");
  refused("- {name: a, average: uniform, last: 5}\n", "there are 4 models");
  refused("- {name: a, average: uniform, last: 1, first: 1}\n", "exclude each other");
  refused("- {name: a, average: uniform, last: 0}\n", "from 1");
  refused("- {name: a}\n", "one of average and weights");
  refused("- {name: a, average: uniform, weights: [1, 1, 1, 1]}\n", "one of average and weights");
  refused("- {name: a, weights: [1, 1, 1]}\n", "3 weights for 4 models");
  refused("- {name: a, weights: [1, 1, 1, .nan]}\n", "a weight");
  refused("- {name: a, weights: [1, 1, 1, .inf]}\n", "a weight");
  refused("- {name: a, weights: [1, -1, 1, -1]}\n", "add up to 0");
  refused("- {name: a, weights: [0, 0, 0, 0]}\n", "all weights are 0");
  refused("- {name: a, weights: nowhere.csv}\n", "no such file");
  refused("- {name: a, average: uniform}\n- {name: a, average: wma}\n",
          "two outputs have the name");
  for (const char* name : {"..", "a/b", "/a", ".a", "a.partial", "\"a b\""})
    refused(fmt::format("- {{name: {}, average: uniform}}\n", name), "name of a folder");
  refused("- {average: uniform}\n", "name");
  refused("- {name: a, average: uniform, windows: 3}\n", "windows");
  expect_refused(kHead + "outputs: []\n", ExitCode::kUsage, "must be a list");
  expect_refused("merge_method: linear\nmodels: {glob: \"run/stop-*\"}\nparameters: {weight: 1}\n",
                 ExitCode::kUsage, "no folder matches");
  expect_refused("merge_method: linear\nmodels: {glob: \"run/step-*\", last: 13}\n",
                 ExitCode::kUsage, "12 folders match");
  const std::string list = "outputs:\n- {name: a, average: uniform}\n";
  expect_refused("merge_method: karcher\nmodels: {glob: \"run/step-*\"}\n" + list, ExitCode::kUsage,
                 "must be linear");
  expect_refused(kHead + "parameters: {weight: 1}\n" + list, ExitCode::kUsage,
                 "remove the parameter");
  expect_refused(kHead + "parameters: {normalize: false}\n" + list, ExitCode::kUsage,
                 "normalize must be true");
  expect_refused(kHead + "lewis: {gamma: 0.1}\n" + list, ExitCode::kUsage, "no densities");
  expect_refused("name: s\n" + kHead + list +
                     "---\nmerge_method: linear\nmodels:\n- {model: s, parameters: {weight: 1}}\n",
                 ExitCode::kUsage, "only the last one");
}

TEST_F(OutputsTest, TablesThatAreWrong) {
  const auto table = [&](const std::string& text, const std::string& said) {
    std::ofstream(dir_.path / "t.csv") << text;
    refused("- {name: a, weights: t.csv}\n", said, ExitCode::kInput);
  };
  table("", "without a line");
  table("model,a\n", "without a line");
  table("step,a\n", "expected a first line");
  table("model,a\nstep-12,1,2\n", "found 3 fields");
  table("model,a\nstep-12,one\n", "t.csv:2: expected a number");
  table("model,a\nstep-12,nan\n", "expected a number");
  table("model,a\nstep-12,inf\n", "expected a number");
  table("model,a\nstep-12,\n", "expected a number");
  table("model,a\nstep-1,1\n", "none of the recipe's models");
  table("model,a\nstep-12,1\nstep-12,1\n", "a second line");
  std::ofstream(dir_.path / "t.csv") << "model,b,c\nstep-12,1,1\n";
  refused("- {name: a, weights: t.csv}\n", "there is no column a");
}

TEST(Windows, AreSaidInEnglish) {
  for (const auto& [every, words] : {std::pair<size_t, std::string>{2, "2nd"},
                                     {3, "3rd"},
                                     {4, "4th"},
                                     {11, "11th"},
                                     {12, "12th"},
                                     {21, "21st"},
                                     {22, "22nd"},
                                     {111, "111th"},
                                     {123, "123rd"}}) {
    EXPECT_EQ((Window{.every = every}).words(), "every " + words + " counted back from the newest");
  }
}

}  // namespace
}  // namespace lewis
