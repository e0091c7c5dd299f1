// Densities against what the LEWIS authors published, and the norms against plain loops.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include "base/error.h"
#include "base/json.h"
#include "io/checkpoint.h"
#include "plan/normalization.h"
#include "plan/plan.h"
#include "plan/tables.h"
#include "temp_dir.h"

namespace lewis {
namespace {

using Shapes = std::map<std::string, Shape>;

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

// Each stack of layers has the whole line: a vision tower does not stretch that of the text model.
TEST(Coefficients, LinesGoOverEachStack) {
  const auto none = memory_source("none", {});
  Threads threads(1);
  const Statistics statistics;
  const ImportanceInput input{*none, *none, statistics, statistics, threads};
  ModelPlan plan;
  plan.tensors = {"model.embed_tokens.weight", "model.norm.weight"};
  for (int i = 0; i < 3; ++i) plan.tensors.push_back(fmt::format("model.layers.{}.x", i));
  for (int i = 0; i < 9; ++i) plan.tensors.push_back(fmt::format("visual.blocks.{}.x", i));
  const CoefficientSettings lines{.method = Coefficient::kLines, .first = 0, .last = 1};
  const LayerValues factors = coefficient_lines(lines, input, plan);
  EXPECT_EQ(factors.at("model.embed_tokens.weight"), 0);
  EXPECT_EQ(factors.at("model.norm.weight"), 1);
  for (int i = 0; i < 3; ++i)
    EXPECT_DOUBLE_EQ(factors.at(fmt::format("model.layers.{}.x", i)), i / 2.0);
  for (int i = 0; i < 9; ++i)
    EXPECT_DOUBLE_EQ(factors.at(fmt::format("visual.blocks.{}.x", i)), i / 8.0);
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

// ---- fused weights and experts ----

// A model folder of random float tensors.
struct TensorFolder {
  TensorFolder(const std::filesystem::path& folder_, uint32_t seed, const Shapes& shapes)
      : folder(folder_) {
    std::filesystem::create_directories(folder);
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 1);
    std::vector<TensorInfo> infos;
    for (const auto& [name, shape] : shapes) {
      std::vector<float>& values = tensors[name];
      values.resize(static_cast<size_t>(element_count(shape)));
      for (float& v : values) v = normal(random);
      infos.push_back({name, DType::kF32, shape});
    }
    std::vector<std::span<const std::byte>> data;
    for (const auto& [name, values] : tensors) data.push_back(std::as_bytes(std::span(values)));
    write_safetensors(folder / "model.safetensors", infos, data, {});
    checkpoint = std::make_unique<Checkpoint>(Checkpoint::open(folder));
  }
  // sum_j s_j ||W[:, j]||^2 / divisor of rows [first, first + rows).
  double squares(const std::string& name, int64_t first, int64_t rows, std::span<const double> s,
                 double divisor) const {
    double sum = 0;
    const auto columns = static_cast<int64_t>(s.size());
    for (int64_t i = first * columns; i < (first + rows) * columns; ++i) {
      const double w = static_cast<double>(tensors.at(name)[static_cast<size_t>(i)]);
      sum += w * w * s[static_cast<size_t>(i % columns)];
    }
    return sum / divisor;
  }

  std::filesystem::path folder;
  std::map<std::string, std::vector<float>> tensors;
  std::unique_ptr<Checkpoint> checkpoint;
};

std::vector<double> random_sums(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(1, 9);
  std::vector<double> sums(n);
  for (double& s : sums) s = uniform(random);
  return sums;
}

Statistics some_statistics() {
  Statistics s;
  s.tokens = 1000;
  s.sequences = 5;
  return s;
}

ModelPlan plan_of(const TensorFolder& base, const TensorFolder& expert, const Statistics& on_base,
                  const Statistics& on_expert) {
  const Recipe recipe = parse_recipe(
      fmt::format("merge_method: ties\nbase_model: {}\nmodels:\n- model: {}\n  parameters: "
                  "{{weight: 1}}\nlewis: {{}}\n",
                  base.folder.string(), expert.folder.string()),
      base.folder / "r.yml");
  Threads threads(2);
  return plan_model(recipe, 0,
                    {*base.checkpoint, *expert.checkpoint, on_base, on_expert, threads, {}});
}

TEST(Plan, AFusedWeightHasOneImportanceAndOneForEachPart) {
  const TempDir dir;
  const std::string end = ".self_attn.qkv_proj";
  const Shapes shapes = {{"model.layers.0" + end + ".weight", {8, 6}},
                         {"model.layers.1" + end + ".weight", {8, 6}}};
  const TensorFolder base(dir.path / "base", 1, shapes), math(dir.path / "math", 2, shapes);
  Statistics sb = some_statistics(), se = some_statistics();
  sb.fused["qkv_proj"] = se.fused["qkv_proj"] = {{"q_proj", 4}, {"k_proj", 2}, {"v_proj", 2}};
  double whole[2], key[2];
  for (uint32_t layer : {0u, 1u}) {
    const std::string module = fmt::format("model.layers.{}{}", layer, end);
    const auto& on_base = sb.sum_squares[module] = random_sums(6, layer);
    const auto& on_expert = se.sum_squares[module] = random_sums(6, layer + 7);
    const auto shift = [&](int64_t first, int64_t rows) {
      const std::string name = module + ".weight";
      return std::abs(std::sqrt(math.squares(name, first, rows, on_expert, 1000)) -
                      std::sqrt(base.squares(name, first, rows, on_base, 1000)));
    };
    whole[layer] = shift(0, 8);
    key[layer] = shift(4, 2);
  }
  const ModelPlan plan = plan_of(base, math, sb, se);
  EXPECT_EQ(plan.importance.size(), 2u);
  EXPECT_EQ(plan.part_importance.size(), 6u);
  EXPECT_EQ(plan.density.size(), 2u);
  for (size_t layer : {0u, 1u}) {
    const std::string place = fmt::format("model.layers.{}.self_attn.", layer);
    EXPECT_NEAR(plan.importance.at(place + "qkv_proj"), whole[layer] / (whole[0] + whole[1]), 6e-6);
    EXPECT_NEAR(plan.part_importance.at(place + "k_proj"), key[layer] / (key[0] + key[1]), 6e-6);
  }
}

// Three experts a layer, stored apart or as one tensor. The last saw few tokens.
struct ExpertCase {
  explicit ExpertCase(bool fused) {
    for (uint32_t layer : {0u, 1u}) {
      const std::string module = fmt::format("model.layers.{}.mlp.experts", layer);
      if (fused) {
        shapes[module + ".gate_up_proj"] = {3, 10, 4};
        shapes[module + ".down_proj"] = {3, 4, 5};
      }
      for (int e = 0; !fused && e < 3; ++e) {
        shapes[fmt::format("{}.{}.gate_proj.weight", module, e)] = {5, 4};
        shapes[fmt::format("{}.{}.up_proj.weight", module, e)] = {5, 4};
        shapes[fmt::format("{}.{}.down_proj.weight", module, e)] = {4, 5};
      }
      sb.experts[module] = {{300, 150, 120}, random_sums(12, layer), random_sums(15, layer + 2)};
      se.experts[module] = {{200, 100, 99}, random_sums(12, layer + 4), random_sums(15, layer + 6)};
    }
    if (fused)
      sb.fused["gate_up_proj"] = se.fused["gate_up_proj"] = {{"gate_proj", 5}, {"up_proj", 5}};
  }
  Shapes shapes;
  Statistics sb = some_statistics(), se = some_statistics();
};

TEST(Plan, ExpertsThatSawFewTokensHaveTheMeanOfTheirLayer) {
  const TempDir dir;
  const ExpertCase c(false);
  const TensorFolder base(dir.path / "base", 1, c.shapes), math(dir.path / "math", 2, c.shapes);
  const ModelPlan plan = plan_of(base, math, c.sb, c.se);
  EXPECT_EQ(plan.importance.size(), 18u);
  EXPECT_TRUE(plan.part_importance.empty());
  const std::map<std::string, int64_t> few = {{"model.layers.0.mlp.experts.2", 99},
                                              {"model.layers.1.mlp.experts.2", 99}};
  EXPECT_EQ(plan.few_tokens, few);
  double shift[2][2];
  for (int layer : {0, 1}) {
    const std::string module = fmt::format("model.layers.{}.mlp.experts", layer);
    for (size_t e : {0u, 1u}) {
      const auto norm = [&](const TensorFolder& model, const Statistics& s) {
        const auto& x = s.experts.at(module);
        return std::sqrt(model.squares(fmt::format("{}.{}.up_proj.weight", module, e), 0, 5,
                                       std::span(x.in).subspan(4 * e, 4),
                                       static_cast<double>(x.tokens[e])));
      };
      shift[layer][e] = std::abs(norm(math, c.se) - norm(base, c.sb));
    }
  }
  // Experts count by their mean in the sum over the layers.
  const double sum = (shift[0][0] + shift[0][1] + shift[1][0] + shift[1][1]) / 2;
  for (int layer : {0, 1}) {
    const auto of = [&](int e) {
      return plan.importance.at(fmt::format("model.layers.{}.mlp.experts.{}.up_proj", layer, e));
    };
    EXPECT_NEAR(of(0), std::min(1.0, shift[layer][0] / sum), 6e-6);
    EXPECT_NEAR(of(1), std::min(1.0, shift[layer][1] / sum), 6e-6);
    EXPECT_NEAR(of(2), (shift[layer][0] + shift[layer][1]) / 2 / sum, 6e-6);
  }
}

// The norm of the one tensor is that of the experts that saw enough tokens.
TEST(Plan, ExpertsInOneTensor) {
  const TempDir dir;
  const ExpertCase fused(true);
  const TensorFolder base(dir.path / "base", 1, fused.shapes);
  const TensorFolder math(dir.path / "math", 2, fused.shapes);
  const ModelPlan plan = plan_of(base, math, fused.sb, fused.se);
  EXPECT_EQ(plan.importance.size(), 4u);
  EXPECT_EQ(plan.part_importance.size(), 18u);
  const std::string module = "model.layers.1.mlp.experts";
  const auto norm = [&](const TensorFolder& model, const Statistics& s) {
    const auto& x = s.experts.at(module);
    double sum = 0;
    for (size_t e : {0u, 1u}) {
      sum += model.squares(module + ".gate_up_proj", static_cast<int64_t>(10 * e), 10,
                           std::span(x.in).subspan(4 * e, 4), static_cast<double>(x.tokens[e]));
    }
    return std::sqrt(sum);
  };
  EXPECT_NEAR(plan.expert_norm.at(module + ".gate_up_proj"), norm(math, fused.se), 1e-9);
  EXPECT_NEAR(plan.base_norm.at(module + ".gate_up_proj"), norm(base, fused.sb), 1e-9);
  EXPECT_EQ(plan.few_tokens.size(), 2u);
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

// Every name that a recipe may write has something that computes it.
TEST(PlanSettings, EveryChoiceHasARow) {
  for (const auto& choice : kEnumNames<Importance>)
    EXPECT_EQ(std::ranges::count(importance_table(), choice.value, &ImportanceRow::choice), 1);
  for (const auto& choice : kEnumNames<Allocation>)
    EXPECT_EQ(std::ranges::count(allocation_table(), choice.value, &AllocationRow::choice), 1);
  for (const auto& choice : kEnumNames<Coefficient>)
    EXPECT_EQ(std::ranges::count(coefficient_table(), choice.value, &CoefficientRow::choice), 1);
}

}  // namespace
}  // namespace lewis
