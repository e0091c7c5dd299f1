// Densities against what the LEWIS authors published, and the norms against plain loops.
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "io/checkpoint.h"
#include "plan/decimal.h"
#include "plan/plan.h"
#include "temp_dir.h"

namespace lewis {
namespace {

// One published run: q_proj by layer. The smallest and the largest value of the whole model (0 and
// the span) are added, so that the scaling is the published one.
void expect_published(const std::vector<int>& steps, double span,
                      const std::vector<double>& densities) {
  LayerValues importance = {{"model.layers.98.mlp.x", 0.0}, {"model.layers.99.mlp.x", span}};
  for (size_t i = 0; i < steps.size(); ++i)
    importance[fmt::format("model.layers.{}.self_attn.q_proj", i)] = steps[i] * 1e-5;
  const LayerValues density = allocate_min_max(importance, 0.3, 0.8);
  ASSERT_EQ(steps.size(), densities.size());
  for (size_t i = 0; i < densities.size(); ++i) {
    EXPECT_NEAR(density.at(fmt::format("model.layers.{}.self_attn.q_proj", i)), densities[i], 2e-12)
        << i;
  }
  EXPECT_EQ(density.at("model.layers.98.mlp.x"), 0.3);
  EXPECT_DOUBLE_EQ(density.at("model.layers.99.mlp.x"), 0.8);
}

TEST(MinMax, PublishedGemma2Mbpp) {
  expect_published(
      {125, 6064, 989, 2535, 6565, 5241, 227, 2603, 2968, 5629}, 0.13516,
      {0.30462414915655517, 0.5243267238828055, 0.3365862681266647, 0.39377774489493933,
       0.5428603137022787, 0.49388132583604616, 0.3083974548683042, 0.39629328203610537,
       0.4097957975732465, 0.5082346848179935});
}

TEST(MinMax, PublishedLlama31Gsm8k) {
  expect_published(
      {1744, 741, 2008, 1321, 74, 664, 379, 963, 2630, 2685, 762, 944, 535, 471, 8, 842, 30},
      0.19093,
      {0.34567118839365213, 0.3194050175456974, 0.35258471691195725, 0.3345938301995496,
       0.30193788299376734, 0.3173885717278584, 0.3099251034410517, 0.32521866652699943,
       0.3688734091028125, 0.3703137275441261, 0.31995495731419893, 0.3247211019745456,
       0.31401037029277745, 0.3123343633792489, 0.30020950086419107, 0.3220499659561096,
       0.3007856282407165});
}

TEST(MinMax, AllEqualGivesTheMiddle) {
  for (const auto& [_, density] : allocate_min_max({{"a", 0.25}, {"b", 0.25}}, 0.3, 0.8))
    EXPECT_DOUBLE_EQ(density, 0.55);
  EXPECT_TRUE(allocate_min_max({}, 0.3, 0.8).empty());
}

TEST(RoundDecimals, AsPythonRounds) {             // round(x, 5) of CPython 3.11
  EXPECT_EQ(round_decimals(0.000005, 5), 1e-05);  // 0.000005 is a little above its decimal
  EXPECT_EQ(round_decimals(0.000015, 5), 2e-05);
  EXPECT_EQ(round_decimals(2.675, 2), 2.67);  // and 2.675 a little below
  EXPECT_EQ(round_decimals(0.5, 0), 0.0);
  EXPECT_EQ(round_decimals(1.5, 0), 2.0);
  EXPECT_EQ(round_decimals(0.1, 5), 0.1);
}

// norms -> normalised deltas -> densities, from the authors' norms to the authors' densities.
TEST(GoldenLewis, NormsToDensities) {
  for (const std::string expert : {"math", "code"}) {
    const Json golden =
        read_json(std::string(LEWIS_TEST_DATA "/golden/lewis/") + expert + "/golden_f64.json");
    LayerValues norms[2];
    for (const auto& [module, expected] : golden["densities"][expert].items()) {
      const std::string key = fmt::format("Layer_{}_{}", module.substr(module.find("layers.") + 9),
                                          tensor_layer(module).value());
      norms[0][module] = golden["norms"]["base"][key].get<double>();
      norms[1][module] = golden["norms"][expert][key].get<double>();
    }
    const LayerValues density = allocate_min_max(normalized_shift(norms[0], norms[1]), 0.3, 0.8);
    for (const auto& [module, expected] : golden["densities"][expert].items()) {
      EXPECT_NEAR(density.at(module), expected.get<double>(), 1e-12) << module;
    }
  }
}

// A model of one linear layer a layer, with other sizes than the program's pieces of 256 rows.
TEST(NormShift, IsThePlainFormula) {
  const TempDir dir;
  const int64_t out = 300, in = 7;
  const auto write = [&](const char* name, float scale) {
    std::vector<float> w(static_cast<size_t>(out * in));
    for (size_t i = 0; i < w.size(); ++i) w[i] = scale * std::sin(static_cast<float>(i));
    std::filesystem::create_directories(dir.path / name);
    const std::vector<std::span<const std::byte>> data = {std::as_bytes(std::span(w)),
                                                          std::as_bytes(std::span(w))};
    write_safetensors(dir.path / name / "model.safetensors",
                      {{"model.layers.0.mlp.up_proj.weight", DType::kF32, {out, in}},
                       {"model.layers.1.mlp.up_proj.weight", DType::kF32, {out, in}}},
                      data, {});
    return w;
  };
  const auto wb = write("base", 1.0f), we = write("math", 1.5f);
  Statistics sb, se;
  sb.tokens = se.tokens = 10;
  sb.sequences = se.sequences = 2;
  for (const char* module : {"model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"}) {
    for (int64_t j = 0; j < in; ++j) {
      const double layer = module[13] == '0' ? 1 : 4;
      sb.sum_squares[module].push_back(layer * static_cast<double>(j + 1));
      se.sum_squares[module].push_back(layer * static_cast<double>(2 * j + 1));
    }
  }
  const auto plain_norm = [&](const std::vector<float>& w, const std::vector<double>& s,
                              double divisor) {
    double sum = 0;
    for (size_t i = 0; i < w.size(); ++i)
      sum += static_cast<double>(w[i]) * static_cast<double>(w[i]) * s[i % 7] / divisor;
    return std::sqrt(sum);
  };
  const Recipe recipe = parse_recipe(
      "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: "
      "1}\nlewis: {}\n",
      dir.path / "r.yml");
  const Checkpoint base = Checkpoint::open(dir.path / "base"),
                   math = Checkpoint::open(dir.path / "math");
  std::vector<ModelPlan> plans;
  for (const size_t count : {1, 3}) {
    Threads threads(count);
    plans.push_back(plan_model(recipe, 0, {base, math, sb, se, threads, {}}));
  }
  EXPECT_EQ(plans[0].base_norm, plans[1].base_norm);  // bit for bit
  for (const auto& [module, s] : sb.sum_squares) {
    EXPECT_NEAR(plans[0].base_norm.at(module), plain_norm(wb, s, sb.divisor()), 1e-9);
    EXPECT_NEAR(plans[0].expert_norm.at(module),
                plain_norm(we, se.sum_squares.at(module), se.divisor()), 1e-9);
  }
  // The second layer's norms are twice the first's: shares 1/3 and 2/3, gamma and epsilon.
  EXPECT_EQ(plans[0].importance.at("model.layers.0.mlp.up_proj"), 0.33333);
  EXPECT_EQ(plans[0].importance.at("model.layers.1.mlp.up_proj"), 0.66667);
  EXPECT_EQ(plans[0].density.at("model.layers.0.mlp.up_proj"), 0.3);
  EXPECT_DOUBLE_EQ(plans[0].density.at("model.layers.1.mlp.up_proj"), 0.8);
}

// Layer 1 must not catch layers 10 to 12, nor a bias or another tensor of the same module.
TEST(ApplyPlans, FiltersCatchTheirTensorAlone) {
  const TempDir dir;
  for (const char* m : {"base", "math"}) std::filesystem::create_directories(dir.path / m);
  Recipe recipe = parse_recipe(
      "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: 1, "
      "density: 0.5}\nlewis: {uncovered: 0.9}\n",
      dir.path / "r.yml");
  ModelPlan plan;
  for (int layer = 0; layer < 13; ++layer) {
    for (const char* c : {"self_attn.q_proj", "mlp.up_proj"}) {
      const std::string module = fmt::format("model.layers.{}.{}", layer, c);
      plan.density[module] = 0.01 * layer + (c[0] == 'm' ? 0.5 : 0);
      plan.tensors.push_back(module + ".weight");
    }
    plan.tensors.push_back(fmt::format("model.layers.{}.self_attn.q_proj.bias", layer));
  }
  plan.tensors.push_back("lm_head.weight");
  const Recipe guided = apply_plans(recipe, {plan});
  const Recipe printed = parse_recipe(to_yaml(guided, true), dir.path / "r.yml");
  EXPECT_FALSE(printed.lewis);
  for (const Recipe& r : {guided, printed}) {
    for (const std::string& tensor : plan.tensors) {
      const std::string module = tensor.substr(0, tensor.rfind('.'));
      const bool covered = tensor.ends_with(".weight") && plan.density.contains(module);
      EXPECT_EQ(resolve(r, "density", 0, tensor, 0), covered ? plan.density.at(module) : 0.9)
          << tensor;
    }
  }
}

TEST(PlanSettings, UnknownNamesAreRefused) {
  Recipe recipe;
  recipe.lewis.emplace();
  EXPECT_NO_THROW(check_plan_settings(recipe));
  recipe.lewis->importance = "norm_shft";
  EXPECT_THROW(check_plan_settings(recipe), Error);
  recipe.lewis->importance = "norm_shift";
  recipe.lewis->allocation = "minmax";
  EXPECT_THROW(check_plan_settings(recipe), Error);
}

}  // namespace
}  // namespace lewis
