// Outliers among importances, against their definitions.
#include "plan/normalise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "recipe/recipe.h"

namespace lewis {
namespace {

std::string module_of(int64_t layer, const std::string& projection) {
  return "model.layers." + std::to_string(layer) + ".mlp." + projection;
}

// `values` of a projection, layer by layer.
LayerValues layers_of(const std::string& projection, const std::vector<double>& values) {
  LayerValues importance;
  for (size_t l = 0; l < values.size(); ++l)
    importance[module_of(static_cast<int64_t>(l), projection)] = values[l];
  return importance;
}

TEST(Normalise, RankIsTheShareOfTheOthersThatAreSmaller) {
  const LayerValues in = layers_of("up_proj", {0.1, 0.9, 0.1, 0.0, 0.3});
  const LayerValues ranks = normalised(in, Normalise::kRank);
  for (const auto& [module, value] : in) {
    double smaller = 0, equal = -1;
    for (const auto& [other, v] : in) {
      smaller += v < value;
      equal += v == value;
    }
    EXPECT_DOUBLE_EQ(ranks.at(module), (smaller + equal / 2) / 4) << module;
  }
  // However large the largest is, the others keep their places.
  LayerValues larger = in;
  larger.at(module_of(1, "up_proj")) = 1e6;
  EXPECT_EQ(normalised(larger, Normalise::kRank), ranks);
}

TEST(Normalise, LogDrawsAnOutlierNear) {
  const LayerValues in = layers_of("up_proj", {0.01, 0.02, 0.03, 0.66, 0});
  const LayerValues logs = normalised(in, Normalise::kLog);
  const double median = 0.03, most = std::log1p(0.66 / median);
  for (const auto& [module, value] : in)
    EXPECT_NEAR(logs.at(module), std::log1p(value / median) / most, 1e-12) << module;
  const LayerValues zeros = layers_of("up_proj", {0, 0});
  EXPECT_EQ(normalised(zeros, Normalise::kLog), zeros);
}

TEST(Normalise, MinMaxLeavesThemAsTheyAre) {
  const LayerValues in = layers_of("up_proj", {0.1, 0.9, 0.1});
  EXPECT_EQ(normalised(in, Normalise::kMinMax), in);
  EXPECT_TRUE(normalised({}, Normalise::kRank).empty());
  EXPECT_TRUE(normalised({}, Normalise::kLog).empty());
}

TEST(Normalise, AnOutlierIsNamedWithItsShare) {
  std::vector<double> values(30, 0.33 / 29);
  values[11] = 0.67;
  LayerValues in = layers_of("down_proj", values);
  in.merge(layers_of("up_proj", std::vector<double>(30, 1.0 / 30)));
  const auto found = outliers_of(in);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].projection, "down_proj");
  EXPECT_EQ(found[0].layer, 11);
  EXPECT_NEAR(found[0].share, 0.67, 1e-12);
}

// The line is a quarter; in a model of few layers it is twice the share that each would have.
TEST(Normalise, WhatIsNoOutlier) {
  const auto count = [](std::vector<double> values) {
    return outliers_of(layers_of("down_proj", values)).size();
  };
  std::vector<double> many(30, 0.74 / 29);
  many[3] = 0.26;
  EXPECT_EQ(count(many), 1u);
  many[3] = 0.24;
  EXPECT_EQ(count(many), 0u);
  EXPECT_EQ(count({0.3, 0.3, 0.4}), 0u);
  EXPECT_EQ(count({0.15, 0.15, 0.7}), 1u);
  EXPECT_EQ(count({1.0}), 0u);
  EXPECT_EQ(count({0, 0, 0}), 0u);
}

// The experts of a layer count together.
TEST(Normalise, ExpertsOfALayerAreOneCell) {
  LayerValues in;
  for (int64_t layer = 0; layer < 10; ++layer) {
    for (int64_t expert = 0; expert < 4; ++expert)
      in[module_of(layer, "experts." + std::to_string(expert) + ".down_proj")] =
          layer == 4 ? 0.1 : 0.01;
  }
  const auto found = outliers_of(in);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].projection, "experts.down_proj");
  EXPECT_EQ(found[0].layer, 4);
  EXPECT_NEAR(found[0].share, 0.4 / 0.76, 1e-12);
}

const std::string kHead =
    "merge_method: ties\nbase_model: demo/models/base\nmodels:\n- model: demo/models/math\n"
    "  parameters: {weight: 1, density: 0.5}\nlewis:\n  calibration:\n"
    "  - {model: demo/models/math, data: demo/data/math_train.jsonl, format: gsm8k}\n";

Recipe parse(const std::string& text) {
  return parse_recipe(text, std::filesystem::path(LEWIS_SOURCE) / "r.yml");
}

TEST(Normalise, IsReadAndPrintedBack) {
  for (const Normalise how : {Normalise::kMinMax, Normalise::kRank, Normalise::kLog}) {
    const Recipe recipe =
        parse(kHead + "  normalise: " + std::string(name_of(how)) + "\n  skip_first: 4\n");
    EXPECT_EQ(recipe.lewis->normalise, how);
    EXPECT_EQ(recipe.lewis->skip_first, 4u);
    const Recipe again = parse(to_yaml(recipe, false));
    EXPECT_EQ(again.lewis->normalise, how);
    EXPECT_EQ(again.lewis->skip_first, 4u);
  }
  EXPECT_EQ(parse(kHead + "  skip_first_token: true\n").lewis->skip_first, 1u);
  EXPECT_EQ(parse(kHead + "  skip_first_token: false\n").lewis->skip_first, 0u);
  EXPECT_EQ(parse(kHead).lewis->skip_first, 0u);
  for (const std::string line :
       {"  skip_first: 2\n  skip_first_token: true\n", "  skip_first: -1\n", "  normalise: ranks\n",
        "  skip_first: 1\n  protocol: reference\n", "  normalise: rank\n  allocation: threshold\n"})
    EXPECT_THROW(parse(kHead + line), Error) << line;
}

}  // namespace
}  // namespace lewis
