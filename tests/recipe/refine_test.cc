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
                              "false, head: false}\n");
  const RefineSettings expected{
      RefineMethod::kRegmean, RefinePrior::kPlain, 8, 0.5, 0.7, 1, 0, false, false, false};
  EXPECT_EQ(recipe.lewis->refine, expected);
  EXPECT_EQ(parse(to_yaml(recipe, false)).lewis->refine, expected);
  EXPECT_EQ(to_yaml(recipe, true).find("refine"), std::string::npos) << "mergekit does not know it";
  const Recipe plain = parse(kHead + "  refine: {}\n");
  EXPECT_EQ(plain.lewis->refine, RefineSettings());
  EXPECT_EQ(parse(to_yaml(plain, false)).lewis->refine, RefineSettings());
  EXPECT_EQ(parse(kHead + "  refine: {method: regmean}\n").lewis->refine->ridge, 0);
  EXPECT_FALSE(parse(kHead).lewis->refine);
}

TEST(RefineRecipe, RefusesWhatMakesNoSense) {
  expect_refused(kHead + "  refine: {methd: regression}\n", "r.yml:9: unknown key 'methd'");
  expect_refused(kHead + "  refine: regression\n", "r.yml:9: lewis.refine must be a map");
  expect_refused(kHead + "  refine: {method: regresion}\n", "did you mean 'regression'");
  expect_refused(kHead + "  refine: {prior: guide}\n", "did you mean 'guided'");
  expect_refused(kHead + "  refine: {ridge: -1}\n", "ridge -1 is below 0");
  expect_refused(kHead + "  refine: {ridge: much}\n", "ridge must be a number");
  expect_refused(kHead + "  refine: {alpha: 0.5}\n", "alpha belongs to the method regmean");
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
