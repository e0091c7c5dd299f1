// The importances, allocations and coefficients beside the paper's, against plain versions in
// double and the laws that they must keep.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/error.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "plan/plan.h"
#include "temp_dir.h"

namespace lewis {
namespace {

using Values = std::vector<float>;

// Two layers of two linear weights, one of them with more rows than the program reads at once, and
// a norm that nothing covers.
struct Pair {
  std::map<std::string, Shape> shapes = {{"model.layers.0.mlp.up_proj.weight", {300, 8}},
                                         {"model.layers.0.mlp.down_proj.weight", {8, 20}},
                                         {"model.layers.1.mlp.up_proj.weight", {300, 8}},
                                         {"model.layers.1.mlp.down_proj.weight", {8, 20}},
                                         {"model.norm.weight", {8}}};
  std::map<std::string, Values> base, expert;
  Statistics on_base, on_expert;
  TempDir dir;

  // `steps`: task vectors take a few values only, so that many scores are equal.
  explicit Pair(uint32_t seed, double steps = 0) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<double> sums(1, 50);
    for (const auto& [name, shape] : shapes) {
      for (int64_t i = 0; i < element_count(shape); ++i) {
        const float b = std::round(normal(random) * 64) / 64, d = normal(random);
        base[name].push_back(b);
        expert[name].push_back(b + (steps > 0 ? std::round(d * 2) / 4 : d));
      }
      if (shape.size() < 2) continue;
      const std::string module = name.substr(0, name.rfind('.'));
      for (int64_t j = 0; j < shape[1]; ++j) {
        on_base.sum_squares[module].push_back(sums(random));
        on_expert.sum_squares[module].push_back(sums(random));
      }
    }
    on_base.tokens = on_expert.tokens = 100;
    on_base.sequences = on_expert.sequences = 4;
  }

  ModelPlan plan(const std::string& lewis, const Statistics* changes = nullptr) {
    write("base", base);
    write("expert", expert);
    const Checkpoint b = Checkpoint::open(dir.path / "base"),
                     e = Checkpoint::open(dir.path / "expert");
    Threads threads(2);
    return plan_model(recipe(lewis), 0, {b, e, on_base, on_expert, threads, {}, changes});
  }
  Recipe recipe(const std::string& lewis) const {
    return parse_recipe(
        "merge_method: ties\nbase_model: base\nmodels:\n- model: expert\n  parameters: {weight: "
        "[0.5, 1.5], density: 0.5}\nlewis: {" +
            lewis + "}\n",
        dir.path / "r.yml");
  }
  void write(const char* name, const std::map<std::string, Values>& tensors) const {
    std::filesystem::create_directories(dir.path / name);
    std::vector<TensorInfo> infos;
    std::vector<std::span<const std::byte>> data;
    for (const auto& [tensor, values] : tensors) {
      infos.push_back({tensor, DType::kF32, shapes.at(tensor)});
      data.push_back(std::as_bytes(std::span(values)));
    }
    write_safetensors(dir.path / name / "model.safetensors", infos, data, {});
  }
  double count(const std::string& module) const {
    return static_cast<double>(element_count(shapes.at(module + ".weight")));
  }
  double mean(const LayerValues& density) const {
    double sum = 0, all = 0;
    for (const auto& [module, d] : density) {
      sum += d * count(module);
      all += count(module);
    }
    return sum / all;
  }
};

TEST(TaskVector, IsThePlainFormula) {
  Pair pair(1);
  const ModelPlan plan = pair.plan("importance: task_vector");
  std::map<std::string, double> norm, sum;
  for (const auto& [module, s] : pair.on_expert.sum_squares) {
    double squares = 0;
    const std::string tensor = module + ".weight";
    for (size_t i = 0; i < pair.base[tensor].size(); ++i) {
      const double d = pair.expert[tensor][i] - pair.base[tensor][i];
      squares += d * d * s[i % s.size()] / 100;
    }
    norm[module] = std::sqrt(squares);
    sum[module.substr(module.rfind('.'))] += norm[module];
  }
  for (const auto& [module, n] : norm) {
    EXPECT_NEAR(plan.importance.at(module), n / sum[module.substr(module.rfind('.'))], 5.1e-6);
  }
}

// lewis.normalise comes before the allocation: densities are those of the ranks, by min_max.
TEST(Allocation, GoesByWhatNormaliseMakes) {
  Pair pair(3);
  const std::string lewis = "importance: task_vector, gamma: 0.2, epsilon: 0.6";
  const ModelPlan plain = pair.plan(lewis), ranked = pair.plan(lewis + ", normalise: rank");
  EXPECT_EQ(ranked.importance, plain.importance) << "shown as it is";
  std::vector<std::pair<double, std::string>> order;
  for (const auto& [module, v] : plain.importance) order.emplace_back(v, module);
  std::ranges::sort(order);
  for (size_t i = 0; i < order.size(); ++i) {
    const double place = static_cast<double>(i) / static_cast<double>(order.size() - 1);
    EXPECT_NEAR(ranked.density.at(order[i].second), 0.2 + 0.4 * place, 1e-4);
  }
  EXPECT_NE(ranked.density, plain.density);
  EXPECT_NE(pair.plan(lewis + ", normalise: log").density, plain.density);
}

// Neither the unit of activations nor the order of channels matters.
TEST(TaskVector, ScaleAndOrderOfChannelsDoNotMatter) {
  Pair pair(2), scaled(2), turned(2);
  for (auto& [_, s] : scaled.on_expert.sum_squares) {
    for (double& v : s) v *= 16;
  }
  for (auto& [_, s] : turned.on_expert.sum_squares) std::ranges::reverse(s);
  for (auto* tensors : {&turned.base, &turned.expert}) {
    for (auto& [name, values] : *tensors) {
      const auto columns = static_cast<std::ptrdiff_t>(pair.shapes.at(name).back());
      for (auto row = values.begin(); row != values.end(); row += columns)
        std::reverse(row, row + columns);
    }
  }
  const auto importance = pair.plan("importance: task_vector").importance;
  EXPECT_EQ(scaled.plan("importance: task_vector").importance, importance);
  for (const auto& [module, v] : turned.plan("importance: task_vector").importance)
    EXPECT_NEAR(v, importance.at(module), 1.1e-5);
}

// A task vector that only turns the weight: norm_shift sees nothing, task_vector does.
TEST(TaskVector, SeesARotation) {
  Pair pair(3);
  pair.on_expert = pair.on_base;
  for (auto& [name, values] : pair.expert) {
    for (size_t i = 0; i < values.size(); ++i)
      values[i] =
          name.find("layers.0") == std::string::npos ? pair.base[name][i] : -pair.base[name][i];
  }
  for (const auto& [module, v] : pair.plan("importance: norm_shift").importance) EXPECT_EQ(v, 0);
  for (const auto& [module, v] : pair.plan("importance: task_vector").importance)
    EXPECT_EQ(v, module.find("layers.0") == std::string::npos ? 0 : 1) << module;
}

TEST(ActivationShift, IsTheRatioOfTheNorms) {
  Pair pair(4);
  Statistics changes;
  double x = 1;
  for (const auto& [module, _] : pair.on_base.sum_squares)
    changes.output_changes[module] = {x *= 3, 4, 5};
  changes.output_changes["model.layers.1.mlp.up_proj"] = {2, 0, 5};  // was silent
  const ModelPlan plan = pair.plan("importance: activation_shift", &changes);
  for (const auto& [module, c] : changes.output_changes) {
    EXPECT_DOUBLE_EQ(plan.importance.at(module), c.base > 0 ? std::sqrt(c.changed / c.base) : 1.0);
  }
  EXPECT_THROW(pair.plan("importance: activation_shift"), Error);
}

TEST(Budget, MeanOverParametersIsTheBudget) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    Pair pair(seed);
    for (const double budget : {0.1, 0.31, 0.5, 0.77, 0.9}) {
      for (const double kappa : {0.0, 0.1, 2.0, -0.3}) {
        const ModelPlan plan = pair.plan(
            fmt::format("allocation: budget, importance: task_vector, gamma: 0.1, epsilon: 0.9, "
                        "budget: {}, kappa: {}",
                        budget, kappa));
        EXPECT_NEAR(pair.mean(plan.density), budget, 1e-12) << seed;
        for (const auto& [module, d] : plan.density) {
          EXPECT_GE(d, 0.1);
          EXPECT_LE(d, 0.9);
          for (const auto& [other, e] : plan.density) {
            if (kappa > 0 && plan.importance.at(module) > plan.importance.at(other)) {
              EXPECT_GE(d, e);
            }
            if (kappa == 0) {
              EXPECT_NEAR(d, budget, 1e-12);
            }
          }
        }
      }
    }
  }
}

// Without a bound in reach: mu + kappa z, whatever unit the importance has.
TEST(Budget, ClosedForm) {
  Pair pair(7);
  Statistics changes;
  const double importance[] = {1, 2, 3, 10};
  size_t at = 0;
  for (const auto& [module, _] : pair.on_base.sum_squares)
    changes.output_changes[module] = {importance[at] * importance[at], 1, 5}, ++at;
  const ModelPlan plan = pair.plan(
      "allocation: budget, importance: activation_shift, gamma: 0, epsilon: 1, budget: 0.5, kappa: "
      "0.05",
      &changes);
  const double mean = pair.mean(plan.importance);
  LayerValues squares;
  for (const auto& [module, v] : plan.importance) squares[module] = (v - mean) * (v - mean);
  for (const auto& [module, v] : plan.importance) {
    EXPECT_NEAR(plan.density.at(module), 0.5 + 0.05 * (v - mean) / std::sqrt(pair.mean(squares)),
                1e-12);
  }
}

// All entries of all tensors, sorted.
TEST(Threshold, KeepsTheLargestOfAllTensors) {
  for (const double steps : {0.0, 1.0}) {
    for (const bool activation : {false, true}) {
      for (const double budget : {0.0, 0.001, 0.3, 0.5, 0.95, 1.0}) {
        Pair pair(11, steps);
        const ModelPlan plan =
            pair.plan(fmt::format("allocation: threshold, budget: {}, trim: {}", budget,
                                  activation ? "activation" : "magnitude"));
        std::vector<std::pair<float, std::string>> scores;
        for (const auto& [module, s] : pair.on_expert.sum_squares) {
          const std::string t = module + ".weight";
          for (size_t i = 0; i < pair.base[t].size(); ++i) {
            const float d = pair.expert[t][i] - pair.base[t][i];
            const float factor =
                activation ? static_cast<float>(std::sqrt(s[i % s.size()] / 100)) : 1;
            scores.emplace_back(std::abs(d * factor), module);
          }
        }
        std::ranges::stable_sort(scores, std::greater(), [](const auto& s) { return s.first; });
        const auto kept = static_cast<size_t>(budget * static_cast<double>(scores.size()));
        std::map<std::string, int64_t> counts;
        for (size_t i = 0; i < kept; ++i) ++counts[scores[i].second];
        for (const auto& [module, d] : plan.density)
          EXPECT_EQ(static_cast<int64_t>(d * pair.count(module)), counts[module]) << module << d;
      }
    }
  }
}

TEST(Scope, NamesWhatIsCovered) {
  Pair pair(12);
  const ModelPlan plan = pair.plan("scope: [layers.1, 0.mlp.up]");
  EXPECT_EQ(plan.density.size(), 3u);
  EXPECT_FALSE(plan.density.contains("model.layers.0.mlp.down_proj"));
  EXPECT_THROW(pair.plan("scope: [self_attn]"), Error);
}

TEST(Coefficient, LinesAreLinearInDepthAndTimesTheWeight) {
  Pair pair(13);
  const std::string lewis = "coefficient: {method: lines, first: 0.2, last: 1.2}, allocation: none";
  const Recipe guided = apply_plans(pair.recipe(lewis), {pair.plan(lewis)});
  for (const Recipe& r : {guided, parse_recipe(to_yaml(guided, true), pair.dir.path / "r.yml")}) {
    const auto weight = [&](const char* t, double depth) {
      return *resolve(r, "weight", 0, t, depth);
    };
    EXPECT_DOUBLE_EQ(weight("model.layers.0.mlp.up_proj.weight", 0), 0.5 * 0.2);
    EXPECT_DOUBLE_EQ(weight("model.layers.1.mlp.down_proj.weight", 1), 1.5 * 1.2);
    EXPECT_DOUBLE_EQ(weight("model.norm.weight", 0), 0.5 * 1.2);
    EXPECT_EQ(resolve(r, "density", 0, "model.norm.weight", 0), 0.5);  // as written
  }
}

TEST(Coefficient, ImportanceHasTheMeanOne) {
  Pair pair(14);
  const ModelPlan plan = pair.plan("coefficient: importance, importance: task_vector");
  LayerValues factors;
  for (const auto& [module, v] : plan.importance) {
    factors[module] = plan.coefficient.at(module + ".weight");
    EXPECT_NEAR(factors[module] / v, factors.begin()->second / plan.importance.begin()->second,
                1e-9);
  }
  EXPECT_NEAR(pair.mean(factors), 1, 1e-12);
}

TEST(Aim, ClosedForm) {
  ModelPlan a, b;
  a.base_magnitudes["w"] = {2, {1, 4, 0}};
  b.base_magnitudes["w"] = {2, {1, 4, 2}};
  const ColumnFactors f = aim_relaxation({a, b}, 0.25).at("w");
  EXPECT_EQ(f.values, (Values{1 - 0.75f * 0.25f, 0.25f, 1 - 0.75f * 0.25f}));
  EXPECT_TRUE(f.fits(6));
  EXPECT_EQ(aim_relaxation({a, b}, 1).at("w").values, (Values{1, 1, 1}));
}

TEST(ColumnFactors, OfSeveralMatricesInOneTensor) {
  const ColumnFactors f{.rows = 2, .columns = 3, .values = {1, 2, 3, 4, 5, 6}};
  Values all(12), some(5);
  f.fill(0, all);
  EXPECT_EQ(all, (Values{1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6}));
  f.fill(4, some);
  EXPECT_EQ(some, (Values{2, 3, 4, 5, 6}));
  EXPECT_FALSE(f.fits(13));
}

TEST(PlanSettings, WhatDoesNotFitIsRefused) {
  const Pair pair(15);
  for (const char* bad :
       {"allocation: budget, budget: 0.9", "coefficient: linear", "trim: activation",
        "aim: {omega: 0.5}", "importance: activation_shift, protocol: reference"}) {
    EXPECT_THROW(check_plan_settings((std::filesystem::create_directories(pair.dir.path / "base"),
                                      std::filesystem::create_directories(pair.dir.path / "expert"),
                                      pair.recipe(bad))),
                 Error)
        << bad;
  }
}

}  // namespace
}  // namespace lewis
