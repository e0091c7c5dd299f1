// LEWIS as a whole against the authors' own program: ids -> statistics -> importance -> densities
// (tests/data/golden/lewis, computed in float64).
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "calibrate/calibrate.h"
#include "plan/plan.h"
#include "test_model.h"

namespace lewis {
namespace {

const std::string kModels = LEWIS_DEMO "/models/";

Recipe recipe_for(const std::string& expert) {
  return parse_recipe("merge_method: ties\nbase_model: " + kModels +
                          "base\nmodels:\n  - model: " + kModels + expert +
                          "\n    parameters: {weight: 1.0}\n"
                          "dtype: bfloat16\nlewis:\n  protocol: reference\n",
                      "recipe.yml");
}

void expect_densities(const std::string& expert) {
  const std::filesystem::path golden = LEWIS_TEST_DATA "/golden/lewis/" + expert;
  const auto ids =
      read_json(golden / "calibration.json")["ids"].get<std::vector<std::vector<int32_t>>>();
  const TestModel base(kModels + "base"), fine_tuned(kModels + expert);
  CalibrateOptions options;
  options.protocol = Protocol::kReference;
  const Statistics base_statistics = calibrate(base.transformer, ids, options);
  const Statistics expert_statistics = calibrate(fine_tuned.transformer, ids, options);
  Threads threads(2);
  const ModelPlan plan = plan_model(
      recipe_for(expert), 0,
      {base.checkpoint, fine_tuned.checkpoint, base_statistics, expert_statistics, threads, {}});
  const Json densities = read_json(golden / "golden_f64.json")["densities"][expert];
  ASSERT_EQ(densities.size(), 56u);
  EXPECT_EQ(plan.density.size(), 56u);
  double largest = 0;
  for (const auto& [module, expected] : densities.items()) {
    largest = std::max(largest, std::abs(plan.density.at(module) - expected.get<double>()));
  }
  EXPECT_LT(largest, 1e-4);
  std::printf("%s: largest difference of a density %.2g\n", expert.c_str(), largest);
}

TEST(ReferenceGolden, DensitiesOfMath) { expect_densities("math"); }
TEST(ReferenceGolden, DensitiesOfCode) { expect_densities("code"); }

}  // namespace
}  // namespace lewis
