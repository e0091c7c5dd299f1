// lewis.refine: read strictly, printed back.
#include <gtest/gtest.h>

#include "base/error.h"
#include "recipe/recipe.h"

namespace lewis {
namespace {

const std::string kHead =
    "merge_method: linear\nbase_model: demo/models/base\nmodels:\n- model: demo/models/math\n"
    "  parameters: {weight: 1}\nlewis:\n  calibration:\n  - {model: demo/models/math, data: "
    "demo/data/math_train.jsonl, format: gsm8k}\n";

Recipe parse(const std::string& text) {
  return parse_recipe(text, std::filesystem::path(LEWIS_SOURCE) / "r.yml");
}

void expect_refused(const std::string& text, const std::string& said) {
  try {
    parse(text);
    FAIL() << "accepted: " << text;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
  }
}

TEST(RefineRecipe, IsReadAndPrintedBack) {
  const Recipe recipe = parse(kHead +
                              "  refine: {method: regmean, prior: plain, samples: 8, ridge: 0.5, "
                              "alpha: 0.7, question_weight: 1, held_out: 0, biases: false, norms: "
                              "false, head: false, routers: false}\n");
  const RefineSettings expected{
      RefineMethod::kRegmean, RefinePrior::kPlain, 8, 0.5, 0.7, 1, 0, false, false, false, false};
  EXPECT_EQ(recipe.lewis->refine, expected);
  EXPECT_EQ(parse(to_yaml(recipe, false)).lewis->refine, expected);
  EXPECT_EQ(to_yaml(recipe, true).find("refine"), std::string::npos) << "mergekit does not know it";
  const Recipe plain = parse(kHead + "  refine: {}\n");
  EXPECT_EQ(plain.lewis->refine, RefineSettings());
  EXPECT_EQ(parse(to_yaml(plain, false)).lewis->refine, RefineSettings());
  EXPECT_EQ(parse(kHead + "  refine: {method: regmean}\n").lewis->refine->ridge, 0);
  EXPECT_FALSE(parse(kHead).lewis->refine);
}

// Numbers of regression: given, or left to the held-out text.
TEST(RefineRecipe, NumbersMayBeLeftOpen) {
  const Recipe open = parse(
      kHead +
      "  refine: {alpha: auto, ridge: auto, weighting: auto, prior_scale: auto, passes: 2}\n");
  EXPECT_FALSE(open.lewis->refine->alpha);
  EXPECT_FALSE(open.lewis->refine->ridge);
  EXPECT_FALSE(open.lewis->refine->weighting);
  EXPECT_FALSE(open.lewis->refine->prior_scale);
  EXPECT_EQ(open.lewis->refine->passes, 2u);
  EXPECT_EQ(parse(to_yaml(open, false)).lewis->refine, open.lewis->refine);
  const Recipe given =
      parse(kHead + "  refine: {alpha: 0.5, ridge: 2, weighting: norm, prior_scale: 1.25}\n");
  EXPECT_EQ(given.lewis->refine->alpha, 0.5);
  EXPECT_EQ(given.lewis->refine->weighting, RefineWeighting::kNorm);
  EXPECT_EQ(given.lewis->refine->prior_scale, 1.25);
  EXPECT_EQ(parse(to_yaml(given, false)).lewis->refine, given.lewis->refine);
  const Recipe standard = parse(
      kHead + "  refine: {alpha: 1, ridge: 0.01, weighting: tokens, prior_scale: 1, passes: 1}\n");
  EXPECT_EQ(standard.lewis->refine, RefineSettings());
}

TEST(RefineRecipe, RefusesWhatMakesNoSense) {
  expect_refused(kHead + "  refine: {methd: regression}\n", "r.yml:9: unknown key 'methd'");
  expect_refused(kHead + "  refine: regression\n", "r.yml:9: lewis.refine must be a map");
  expect_refused(kHead + "  refine: {method: regresion}\n", "did you mean 'regression'");
  expect_refused(kHead + "  refine: {prior: guide}\n", "did you mean 'guided'");
  expect_refused(kHead + "  refine: {ridge: -1}\n", "ridge -1 is below 0");
  expect_refused(kHead + "  refine: {ridge: much}\n", "ridge must be a number");
  expect_refused(kHead + "  refine: {method: regmean_pp, alpha: 0.5}\n",
                 "alpha belongs to the methods regression and regmean");
  expect_refused(kHead + "  refine: {method: regmean, ridge: auto}\n",
                 "ridge: auto belongs to the method regression");
  expect_refused(kHead + "  refine: {method: regmean, alpha: auto}\n", "alpha must be a number");
  expect_refused(kHead + "  refine: {method: regmean, weighting: norm}\n",
                 "weighting belongs to the method regression");
  expect_refused(kHead + "  refine: {alpha: 1.5}\n", "alpha 1.5 is outside [0, 1]");
  expect_refused(kHead + "  refine: {prior_scale: -1}\n", "prior_scale -1 is below 0");
  expect_refused(kHead + "  refine: {weighting: norms}\n", "did you mean 'norm'");
  expect_refused(kHead + "  refine: {passes: 0}\n", "passes");
  expect_refused(kHead + "  refine: {passes: 9}\n", "passes 9 is above 8");
  expect_refused(kHead + "  refine: {held_out: 1}\n", "leaves nothing to fit to");
  expect_refused(kHead + "  refine: {held_out: 2}\n", "held_out 2 is outside [0, 1]");
  expect_refused(kHead + "  refine: {samples: 1.5}\n", "samples must be a whole number");
  const std::string models = kHead.substr(0, kHead.find("lewis:"));
  expect_refused(models + "lewis:\n  refine: {}\n", "needs lewis.calibration");
  expect_refused("name: a\n" + kHead + "  refine: {}\n---\n" +
                     "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: 1}\n",
                 "only the last one can be refined");
}

}  // namespace
}  // namespace lewis
