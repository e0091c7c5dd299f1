// Recipes against the evaluation rules of mergekit (its documented examples), strictness, printing.
#include "recipe/recipe.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <random>

#include "base/error.h"
#include "base/text_file.h"
#include "scoped_env.h"
#include "temp_dir.h"
#include "yaml/yaml.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// A folder with three empty models and data, which is also the recipe's folder.
class RecipeTest : public testing::Test {
 protected:
  RecipeTest() {
    for (const char* model : {"base", "math", "code"}) fs::create_directories(dir_.path / model);
    fs::copy_file(LEWIS_DEMO "/data/math_train.jsonl", dir_.path / "data.jsonl");
  }

  Recipe parse(const std::string& text) const { return parse_recipe(text, dir_.path / "r.yml"); }

  // Usage error that names r.yml:LINE and says `said` on one line.
  void expect_refused(const std::string& text, int line, const std::string& said) const {
    try {
      parse(text);
      FAIL() << "accepted; expected: " << said << "\n" << text;
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_EQ(e.code(), ExitCode::kUsage) << message;
      EXPECT_NE(message.find(fmt::format("r.yml:{}:", line)), std::string::npos) << message << "\n"
                                                                                 << text;
      EXPECT_NE(message.find(said), std::string::npos) << message << "\nexpected: " << said;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  }

  // A recipe of two models whose first has these parameters.
  Recipe with_density(const std::string& density, const std::string& global = "") const {
    return parse(
        "merge_method: ties\nbase_model: base\nmodels:\n  - model: math\n    parameters:\n      "
        "weight: 1\n      density: " +
        density + "\n  - model: code\n    parameters: {weight: 1}\n" +
        (global.empty() ? "" : "parameters:\n" + global));
  }

  TempDir dir_;
};

double density_at(const Recipe& recipe, const std::string& tensor, double t) {
  return resolve(recipe, "density", 0, tensor, t).value_or(-1);
}

TEST_F(RecipeTest, Scalars) {
  EXPECT_EQ(density_at(with_density("0.25"), "x", 0.3), 0.25);
  EXPECT_EQ(density_at(with_density("1"), "x", 0.3), 1.0);
  EXPECT_EQ(density_at(with_density("\"0.5\""), "x", 0.3),
            0.5);  // pydantic takes numbers in quotes
  EXPECT_EQ(density_at(with_density("true"), "x", 0.3), 1.0);
}

// The values of mergekit's own run.
TEST_F(RecipeTest, Gradients) {
  const Recipe r = with_density("[0, 0.5, 0.3, 0.7, 1]");
  EXPECT_NEAR(density_at(r, "x", 0.1), 0.2, 1e-12);
  EXPECT_NEAR(density_at(r, "x", 0.9), 0.88, 1e-12);
  EXPECT_EQ(density_at(r, "x", 0), 0.0);
  EXPECT_EQ(density_at(r, "x", 0.5), 0.3);
  EXPECT_EQ(density_at(r, "x", 1), 1.0);
  EXPECT_EQ(density_at(with_density("[0.4]"), "x", 0.7), 0.4);
}

TEST_F(RecipeTest, FiltersTakeTheFirstThatMatches) {
  const Recipe r = with_density(
      "[{filter: layers.1.self_attn, value: 0.1}, {filter: mlp, value: [0, 1]}, {filter: '*', "
      "value: 0.9}, {value: 0.2}]");
  EXPECT_EQ(density_at(r, "model.layers.1.self_attn.q_proj.weight", 0), 0.1);
  EXPECT_EQ(density_at(r, "model.layers.11.self_attn.q_proj.weight", 0), 0.9);
  EXPECT_EQ(density_at(r, "model.layers.1.mlp.up_proj.weight", 0.25), 0.25);
  EXPECT_EQ(density_at(r, "lm_head.weight", 0), 0.9);
  EXPECT_EQ(density_at(with_density("{filter: mlp, value: 0.5}"), "a.mlp.b", 0),
            0.5);  // one condition without a list
}

TEST_F(RecipeTest, WithoutAMatchTheNextLevelDecides) {
  const Recipe r = with_density("[{filter: mlp, value: 0.5}]",
                                "  density: 0.7\n  lambda: [{filter: norm, value: 2}]\n");
  EXPECT_EQ(density_at(r, "mlp", 0), 0.5);
  EXPECT_EQ(density_at(r, "attn", 0), 0.7);
  EXPECT_EQ(resolve(r, "density", 1, "mlp", 0), 0.7);
  EXPECT_EQ(resolve(r, "lambda", std::nullopt, "final norm", 0), 2.0);
  EXPECT_EQ(resolve(r, "lambda", std::nullopt, "attn", 0), std::nullopt);
  EXPECT_EQ(resolve(r, "gamma", 0, "mlp", 0), std::nullopt);
}

TEST_F(RecipeTest, DepthOfTensors) {
  EXPECT_EQ(tensor_layer("model.layers.11.mlp.experts.3.w1.weight"), 11);
  EXPECT_EQ(tensor_layer("model.embed_tokens.weight"), std::nullopt);
  LayerStacks five, one;
  for (const char* name : {"model.layers.0.a", "model.layers.4.a", "lm_head.weight"})
    five.add(name);
  one.add("model.layers.0.a");
  EXPECT_EQ(five.depth("model.layers.0.a"), 0.0);
  EXPECT_EQ(five.depth("model.layers.1.a"), 0.25);
  EXPECT_EQ(five.depth("model.layers.4.a"), 1.0);
  EXPECT_EQ(one.depth("model.layers.0.a"), 1.0);
  EXPECT_EQ(five.depth("lm_head.weight"), 0.0);
}

TEST_F(RecipeTest, BaseIsFoundOrAppended) {
  const Recipe appended = with_density("1");
  ASSERT_EQ(appended.models.size(), 3u);
  EXPECT_EQ(appended.base_index, 2u);
  EXPECT_FALSE(appended.models[2].listed);
  const Recipe listed = parse(
      "merge_method: ties\nbase_model: base\nmodels:\n- model: ./base\n- model: math\n  "
      "parameters: {weight: 1}\n");
  EXPECT_EQ(listed.base_index, 0u);
  EXPECT_EQ(listed.models.size(), 2u);
}

// Source, slice, module, recipe: each level hides those behind it.
TEST_F(RecipeTest, SlicesAndModules) {
  const Recipe r = parse(
      "merge_method: slerp\nbase_model: math\nmodules:\n  default:\n    parameters: {t: 0.3, "
      "lambda: 2}\n    slices:\n"
      "    - sources:\n      - {model: math, layer_range: [0, 2], parameters: {weight: 0.5}}\n     "
      " - {model: code, layer_range: [1, 3]}\n"
      "      parameters: {t: 0.7, weight: 0.6}\n    - sources:\n      - {model: math, layer_range: "
      "[2, 3]}\n      - {model: code, layer_range: [0, 1]}\n"
      "parameters: {t: 0.1, weight: 0.9}\n");
  ASSERT_EQ(r.slices.size(), 2u);
  EXPECT_EQ(r.base_index, 0u);
  EXPECT_EQ(r.models.size(), 2u);
  const auto value = [&](size_t slice, std::optional<size_t> source, const char* name) {
    return find_value(slice_levels(r, slice, source), name, "x", 0)->value;
  };
  EXPECT_EQ(value(0, 0, "weight"), 0.5);
  EXPECT_EQ(value(0, 1, "weight"), 0.6);
  EXPECT_EQ(value(1, 1, "weight"), 0.9);
  EXPECT_EQ(value(0, std::nullopt, "t"), 0.7);
  EXPECT_EQ(value(1, std::nullopt, "t"), 0.3);
  EXPECT_EQ(value(1, std::nullopt, "lambda"), 2);
}

TEST_F(RecipeTest, ModelsOfTheHubCache) {
  const fs::path repo = dir_.path / "hub/models--owner--name";
  fs::create_directories(repo / "snapshots/0123abc");
  fs::create_directories(repo / "snapshots/4567def");
  fs::create_directories(repo / "refs");
  std::ofstream(repo / "refs/main") << "0123abc\n";
  const ScopedEnv cache("HF_HUB_CACHE", (dir_.path / "hub").string());
  const auto folder = [&](const std::string& id) {
    return parse("merge_method: linear\nmodels:\n- model: " + id + "\n").models[0].folder;
  };
  EXPECT_EQ(folder("owner/name"), repo / "snapshots/0123abc");
  EXPECT_EQ(folder("owner/name@4567def"), repo / "snapshots/4567def");
  for (const char* id : {"owner/none", "owner/name@none", "owner/name@../../x", "../hub/x"}) {
    expect_refused("merge_method: linear\nmodels:\n- model: " + std::string(id) + "\n", 3,
                   "no such folder");
  }
}

TEST_F(RecipeTest, LewisSection) {
  const Recipe r = parse(
      "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: "
      "1}\ndtype: torch.bfloat16\nout_dtype: float16\n"
      "lewis:\n  calibration:\n  - {model: math, data: data.jsonl, format: gsm8k, samples: 3, "
      "seed: 7, max_tokens: 99}\n"
      "  protocol: reference\n  gamma: 0.2\n  epsilon: 0.9\n  uncovered: {density: 0.6}\n  seed: "
      "5\n");
  ASSERT_TRUE(r.lewis);
  EXPECT_EQ(r.lewis->protocol, Protocol::kReference);
  EXPECT_EQ(r.lewis->gamma, 0.2);
  EXPECT_EQ(r.lewis->epsilon, 0.9);
  EXPECT_EQ(r.lewis->uncovered, 0.6);
  EXPECT_EQ(r.lewis->calibration.at(0).samples, 3u);
  EXPECT_EQ(r.lewis->calibration.at(0).max_tokens, 99u);
  EXPECT_EQ(r.dtype, DType::kBF16);
  EXPECT_EQ(r.out_dtype, DType::kF16);
}

TEST_F(RecipeTest, StatisticsInsteadOfData) {
  const std::string head =
      "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: 1}\n";
  const auto entry = [&](const std::string& text) {
    return head + "lewis:\n  calibration: [{model: math, " + text + "}]\n";
  };
  const Recipe r = parse(entry("statistics: {base: data.jsonl, model: data.jsonl}"));
  EXPECT_TRUE(r.lewis->calibration.at(0).has_statistics());
  EXPECT_EQ(r.lewis->calibration[0].base_statistics, dir_.path / "data.jsonl");
  EXPECT_EQ(r.lewis->calibration[0].model_statistics, dir_.path / "data.jsonl");
  const Recipe again = parse(to_yaml(r, false));
  EXPECT_EQ(to_yaml(again, false), to_yaml(r, false));
  EXPECT_EQ(again.lewis->calibration.at(0).base_statistics, dir_.path / "data.jsonl");
  expect_refused(entry("statistics: {base: data.jsonl}"), 7, "'model' is missing");
  expect_refused(entry("statistics: {base: data.jsonl, model: none}"), 7, "no such file");
  expect_refused(entry("statistics: {base: data.jsonl, modell: x}"), 7, "did you mean 'model'");
  expect_refused(entry("statistics: {base: data.jsonl, model: data.jsonl}, data: data.jsonl"), 7,
                 "'data' has no meaning beside statistics");
  expect_refused(entry("samples: 3"), 7, "'data' is missing (or statistics)");
  expect_refused(
      entry("statistics: {base: data.jsonl, model: data.jsonl}") + "  skip_first_token: true\n", 7,
      "statistics are there already");
}

TEST_F(RecipeTest, ErrorsNameLineAndNearestKey) {
  const std::string head =
      "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: 1}\n";
  expect_refused("merge_metod: ties\nmodels: []\n", 1, "did you mean 'merge_method'");
  expect_refused(head + "paramters: {}\n", 6, "did you mean 'parameters'");
  expect_refused("merge_method: ties\nmodels:\n- model: math\n  parameters:\n    wieght: 1\n", 5,
                 "did you mean 'weight'");
  expect_refused("merge_method: ties\nmodels:\n- modle: math\n", 3, "did you mean 'model'");
  expect_refused(head + "lewis:\n  gama: 0.3\n", 7, "did you mean 'gamma'");
  expect_refused(head + "lewis:\n  gamma: 0.9\n  epsilon: 0.5\n", 7,
                 "gamma 0.9 is above epsilon 0.5");
  expect_refused(head + "lewis:\n  gamma: 2\n", 7, "outside [0, 1]");
  expect_refused(head + "lewis:\n  protocol: clan\n", 7, "did you mean 'clean'");
  expect_refused(head + "lewis:\n  calibration: [{model: code, data: data.jsonl}]\n", 7,
                 "none of the recipe's models");
  expect_refused(head + "lewis:\n  calibration: [{model: math, data: none.jsonl}]\n", 7,
                 "no such file");
  expect_refused(head + "merge_method: dare_ties\n", 6, "duplicate key");
  expect_refused(head + "dtype: float8\n", 6, "bfloat16");
  expect_refused(head + "parameters: {density: 1.5}\n", 6, "outside [0, 1]");
  expect_refused(head + "parameters: {density: high}\n", 6, "must be a number");
  expect_refused(head + "parameters: {density: []}\n", 6, "empty list");
  expect_refused(head + "parameters: {density: .nan}\n", 6, "must be a number");
  expect_refused(head + "parameters: {density: [{filtr: mlp, value: 1}]}\n", 6,
                 "did you mean 'filter'");
  expect_refused(head + "parameters: {density: [{filter: mlp}]}\n", 6, "'value' is missing");
  expect_refused("merge_method: ties\nmodels:\n- model: math\n  parameters: {normalize: true}\n", 4,
                 "whole merge");
  expect_refused("merge_method: ties\nmodels:\n- model: nowhere\n", 3, "nowhere");
  expect_refused("merge_method: ties\nmodels:\n- model: math\n- model: ./math\n", 4, "twice");
  const std::string slice = "merge_method: passthrough\nslices:\n- sources:\n";
  expect_refused("merge_method: ties\nslices: []\n", 2, "list of slices");
  expect_refused("merge_method: ties\nslices: [{sources: []}]\n", 2, "list of models");
  expect_refused(slice + "  - {model: math}\n", 4, "'layer_range' is missing");
  expect_refused(slice + "  - {model: math, layer_range: [2, 2]}\n", 4, "holds no layer");
  expect_refused(slice + "  - {model: math, layer_range: 2}\n", 4, "[first, end)");
  expect_refused(
      slice + "  - {model: math, layer_range: [0, 2]}\n  - {model: code, layer_range: [0, 3]}\n", 5,
      "3 layers");
  expect_refused(
      slice + "  - {model: math, layer_range: [0, 2]}\n  - {model: math, layer_range: [1, 3]}\n", 5,
      "twice");
  expect_refused("merge_method: ties\nmodels: [{model: math}]\nslices: [{sources: []}]\n", 3,
                 "one of models, slices and modules");
  expect_refused("merge_method: ties\nmodules: {a: {models: []}, b: {models: []}}\n", 2,
                 "'models' must be a list of models");
  expect_refused("models:\n- model: math\n", 1, "'merge_method' is missing");
  expect_refused("- a\n- b\n", 1, "map");
  expect_refused("", 1, "");
}

TEST_F(RecipeTest, YamlIsStrict) {
  expect_refused("merge_method: &m ties\n", 1, "anchor");
  expect_refused("a: *m\n", 1, "");
  expect_refused("merge_method: !!str ties\n", 1, "tag");
  expect_refused("<<: {a: 1}\n", 1, "merge key");
  expect_refused("a: [1, 2\n", 2, "closing bracket");
  expect_refused("a: \xff\n", 1, "UTF-8");
  expect_refused("a: " + std::string(1000, '[') + "\n", 1, "nested deeper");
  expect_refused("? [a]\n: 1\n", 1, "");
}

// Whatever is changed in a recipe: an error of ours with a line, or a recipe; never a crash.
TEST_F(RecipeTest, ChangedTextNeverCrashes) {
  const std::string good = read_text_file(LEWIS_DEMO "/recipe.yml");
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string text = good;
    for (uint64_t n = random() % 4 + 1; n > 0; --n) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, random() % 20);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 20));
      }
      if (text.empty()) text = " ";
    }
    try {
      parse(text);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage);
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
  }
}

void expect_same_slices(const Recipe& a, const Recipe& b) {
  ASSERT_EQ(a.slices.size(), b.slices.size());
  for (size_t s = 0; s < a.slices.size(); ++s) {
    ASSERT_EQ(a.slices[s].sources.size(), b.slices[s].sources.size());
    for (size_t i = 0; i < a.slices[s].sources.size(); ++i) {
      const SliceSource &x = a.slices[s].sources[i], &y = b.slices[s].sources[i];
      EXPECT_EQ(std::tuple(x.model, x.begin, x.end), std::tuple(y.model, y.begin, y.end));
      for (const char* tensor : {"o_proj", "mlp"}) {
        for (const char* parameter : {"scale", "t"}) {
          const auto p = find_value(slice_levels(a, s, i), parameter, tensor, 0.5);
          const auto q = find_value(slice_levels(b, s, i), parameter, tensor, 0.5);
          ASSERT_EQ(p.has_value(), q.has_value());
          if (p) {
            EXPECT_EQ(p->value, q->value);
          }
        }
      }
    }
  }
}

void expect_same(const Recipe& a, const Recipe& b) {
  expect_same_slices(a, b);
  EXPECT_EQ(a.merge_method, b.merge_method);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.out_dtype, b.out_dtype);
  EXPECT_EQ(a.base_index, b.base_index);
  ASSERT_EQ(a.models.size(), b.models.size());
  for (const char* tensor : {"model.layers.0.self_attn.q_proj.weight",
                             "model.layers.1.mlp.up_proj.weight", "lm_head.weight"}) {
    for (const char* parameter : {"weight", "density", "lambda", "normalize", "int8_mask"}) {
      for (const double t : {0.0, 0.3, 1.0}) {
        for (size_t m = 0; m < a.models.size(); ++m)
          EXPECT_EQ(resolve(a, parameter, m, tensor, t), resolve(b, parameter, m, tensor, t));
      }
    }
  }
}

// All recipes of the golden merges that are of the form models: read, printed, read again.
TEST(GoldenRecipes, PrintAndReadAgain) {
  const fs::path folder = LEWIS_TEST_DATA "/golden/merges";
  size_t parsed = 0;
  for (const auto& entry : fs::directory_iterator(folder / "recipes")) {
    const std::string text = read_text_file(entry.path());
    const Recipe recipe = parse_recipe(text, folder / "recipe.yml");
    for (const bool stock : {false, true})
      expect_same(recipe, parse_recipe(to_yaml(recipe, stock), folder / "recipe.yml"));
    ++parsed;
  }
  EXPECT_GT(parsed, 10u);
}

TEST(Print, ModelNamesThatYamlWouldReadOtherwise) {
  const TempDir dir;
  for (const std::string name :
       {"true", "1e5", "a: b", "#x", "it's", "say \"hi\"", "*", "- a", "010", "null"}) {
    fs::create_directories(dir.path / name);
    Recipe recipe;
    recipe.merge_method = "linear";
    recipe.models.push_back({name, dir.path / name, {{"weight", 1e-7}}, true, 1});
    const Recipe back = parse_recipe(to_yaml(recipe, true), dir.path / "r.yml");
    EXPECT_EQ(back.models.at(0).model, name);
    EXPECT_EQ(resolve(back, "weight", 0, "x", 0), 1e-7);
  }
}

}  // namespace
}  // namespace lewis
