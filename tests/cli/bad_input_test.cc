// Bad input ends in a clear message, exit code 2 or 3, and an untouched disk.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "run_lewis.h"
#include "temp_dir.h"

namespace fs = std::filesystem;

namespace lewis {
namespace {

void write(const fs::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

void replace_text(const fs::path& file, const std::string& from, const std::string& to) {
  std::string text = file_text(file);
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << file << ": " << from;
  text.replace(at, from.size(), to);
  write(file, text);
}

// A workshop with the demo's models (copies), data and recipe, to be spoiled in one place.
struct Workshop {
  Workshop() {
    for (const char* model : {"base", "math", "code"}) {
      fs::create_directories(root / "demo/models");
      fs::copy(fs::path(LEWIS_DEMO) / "models" / model, root / "demo/models" / model);
    }
    fs::create_directories(root / "demo/data");
    for (const char* data : {"math_train.jsonl", "code_train.jsonl"}) {
      fs::copy_file(fs::path(LEWIS_DEMO) / "data" / data, root / "demo/data" / data);
    }
    fs::copy_file(fs::path(LEWIS_DEMO) / "recipe.yml", root / "demo/recipe.yml");
  }
  fs::path model(const std::string& name) const { return root / "demo/models" / name; }
  fs::path recipe() const { return root / "demo/recipe.yml"; }

  TempDir scratch;
  TempDir dir;
  fs::path root = dir.path;
};

struct Case {
  std::string name;
  std::function<void(const Workshop&)> spoil;
  std::string arguments;
  int code;
  std::vector<std::string> said;  // pieces of the message
};

const std::string kMerge = "merge demo/recipe.yml out";

std::vector<Case> cases() {
  return {
      {"MergeIntoGguf",
       [](const Workshop&) {},
       "merge demo/recipe.yml merged.gguf --report",
       2,
       {"merged.gguf", "--report is for a folder"}},
      {"GgufTypeOfAFolder",
       [](const Workshop&) {},
       "merge demo/recipe.yml merged --type q8_0",
       2,
       {"merged", "--type is for a GGUF file"}},
      {"TruncatedWeights",
       [](const Workshop& w) { fs::resize_file(w.model("math") / "model.safetensors", 1000000); },
       kMerge,
       3,
       {"math/model.safetensors"}},
      {"RandomHeader",
       [](const Workshop& w) {
         std::string bytes = file_text(w.model("math") / "model.safetensors");
         for (size_t i = 8; i < 4000; ++i) bytes[i] = static_cast<char>(i * 7919 >> 3);
         write(w.model("math") / "model.safetensors", bytes);
       },
       kMerge,
       3,
       {"math/model.safetensors"}},
      {"HeaderLengthOfHugeSize",
       [](const Workshop& w) {
         std::string bytes = file_text(w.model("math") / "model.safetensors");
         for (size_t i = 0; i < 8; ++i) bytes[i] = '\x7f';
         write(w.model("math") / "model.safetensors", bytes);
       },
       kMerge,
       3,
       {"math/model.safetensors", "header"}},
      {"MissingShard",
       [](const Workshop& w) {
         fs::remove(w.model("math") / "model.safetensors");
         write(
             w.model("math") / "model.safetensors.index.json",
             R"({"metadata":{},"weight_map":{"model.norm.weight":"model-00001-of-00002.safetensors"}})");
       },
       kMerge,
       3,
       {"model-00001-of-00002.safetensors"}},
      {"IndexLeavesTheFolder",
       [](const Workshop& w) {
         fs::remove(w.model("math") / "model.safetensors");
         write(w.model("math") / "model.safetensors.index.json",
               R"({"metadata":{},"weight_map":{"model.norm.weight":"../base/model.safetensors"}})");
       },
       kMerge,
       3,
       {"../base/model.safetensors"}},
      {"TrimOfAMethodThatDoesNotRank",
       [](const Workshop& w) {
         replace_text(w.recipe(), "merge_method: ties", "merge_method: dare_ties");
         replace_text(w.recipe(), "gamma: 0.3", "gamma: 0.3\n  trim: activation");
       },
       kMerge,
       2,
       {"trim", "dare_ties"}},
      {"BudgetBelowTheSmallestDensity",
       [](const Workshop& w) {
         replace_text(w.recipe(), "allocation: min_max", "allocation: budget\n  budget: 0.1");
       },
       kMerge,
       2,
       {"budget 0.1", "[0.3, 0.8]"}},
      {"UnknownCoefficient",
       [](const Workshop& w) {
         replace_text(w.recipe(), "gamma: 0.3", "gamma: 0.3\n  coefficient: line");
       },
       kMerge,
       2,
       {"coefficient 'line'", "'lines'"}},
      {"NoModelType",
       [](const Workshop& w) {
         replace_text(w.model("math") / "config.json", "\"model_type\": \"llama\",", "");
       },
       kMerge,
       3,
       {"math/config.json", "model_type"}},
      {"UnknownModelType",
       [](const Workshop& w) {
         replace_text(w.model("math") / "config.json", "\"model_type\": \"llama\"",
                      "\"model_type\": \"lama\"");
       },
       kMerge,
       3,
       {"math/config.json", "lama", "llama"}},
      {"DifferentShapes",
       [](const Workshop& w) {
         fs::copy_file(fs::path(LEWIS_TEST_DATA) / "golden/merges/models/a/model.safetensors",
                       w.model("math") / "model.safetensors", fs::copy_options::overwrite_existing);
       },
       "merge demo/recipe.yml out --no-guidance",
       3,
       {"model."}},
      {"BrokenTokenizer",
       [](const Workshop& w) { fs::resize_file(w.model("math") / "tokenizer.json", 5000); },
       kMerge,
       3,
       {"math/tokenizer.json"}},
      {"EmptyCalibration",
       [](const Workshop& w) { write(w.root / "demo/data/math_train.jsonl", ""); },
       kMerge,
       3,
       {"math_train.jsonl"}},
      {"BrokenCalibrationLine",
       [](const Workshop& w) {
         std::string text = file_text(w.root / "demo/data/math_train.jsonl");
         text.insert(text.find('\n') + 3, "{{{");
         write(w.root / "demo/data/math_train.jsonl", text);
       },
       kMerge,
       3,
       {"math_train.jsonl:2"}},
      {"NanInAWeight",
       [](const Workshop& w) {
         std::string bytes = file_text(w.model("math") / "model.safetensors");
         bytes[bytes.size() - 2] = static_cast<char>(0xc0);
         bytes[bytes.size() - 1] = static_cast<char>(0x7f);
         write(w.model("math") / "model.safetensors", bytes);
       },
       "merge demo/recipe.yml out --no-guidance",
       3,
       {"math", "model."}},
      {"GammaAboveEpsilon",
       [](const Workshop& w) { replace_text(w.recipe(), "gamma: 0.3", "gamma: 0.9"); },
       kMerge,
       2,
       {"demo/recipe.yml:", "gamma", "epsilon"}},
      {"DensityOutOfRange",
       [](const Workshop& w) { replace_text(w.recipe(), "density: 0.5", "density: 1.5"); },
       kMerge,
       2,
       {"demo/recipe.yml:", "density", "1.5"}},
      {"OutExists",
       [](const Workshop& w) {
         fs::create_directories(w.root / "out");
         write(w.root / "out/x", "y");
       },
       kMerge,
       2,
       {"out", "--force"}},
      {"OutInASource",
       [](const Workshop&) {},
       "merge demo/recipe.yml demo/models/math/out",
       2,
       {"math"}},
      {"OutIsASourceEvenWithForce",
       [](const Workshop&) {},
       "merge demo/recipe.yml demo/models/math --force",
       2,
       {"math"}},
      {"UnknownKey",
       [](const Workshop& w) { replace_text(w.recipe(), "merge_method:", "merge_methode:"); },
       kMerge,
       2,
       {"demo/recipe.yml:3", "merge_methode", "merge_method"}},
      {"DuplicateKey",
       [](const Workshop& w) {
         replace_text(w.recipe(), "dtype: bfloat16", "dtype: bfloat16\ndtype: float32");
       },
       kMerge,
       2,
       {"demo/recipe.yml:", "dtype"}},
      {"Anchor",
       [](const Workshop& w) { replace_text(w.recipe(), "dtype: bfloat16", "dtype: &x bfloat16"); },
       kMerge,
       2,
       {"demo/recipe.yml:", "anchor"}},
      {"UnknownMethod",
       [](const Workshop& w) {
         replace_text(w.recipe(), "merge_method: ties", "merge_method: tiess");
       },
       kMerge,
       2,
       {"tiess", "ties"}},
      {"MissingModel",
       [](const Workshop& w) { fs::remove_all(w.model("math")); },
       kMerge,
       2,
       {"demo/models/math"}},
      {"MissingRecipe",
       [](const Workshop& w) { fs::remove(w.recipe()); },
       kMerge,
       3,
       {"demo/recipe.yml"}},
      {"UnknownVerb", [](const Workshop&) {}, "merg demo/recipe.yml out", 2, {}},
      {"UnknownOption",
       [](const Workshop&) {},
       "merge demo/recipe.yml out --forze",
       2,
       {"--forze"}},
      {"UnknownTask",
       [](const Workshop&) {},
       "eval demo/models/base --task los:demo/data/math_train.jsonl:gsm8k",
       2,
       {"los", "loss"}},
      {"UnknownFormat",
       [](const Workshop&) {},
       "eval demo/models/base --task loss:demo/data/math_train.jsonl:gsm8",
       2,
       {"gsm8", "gsm8k"}},
      {"PickleOnly",
       [](const Workshop& w) {
         fs::remove(w.model("math") / "model.safetensors");
         write(w.model("math") / "pytorch_model.bin", "x");
       },
       kMerge,
       3,
       {"pytorch_model.bin"}},
  };
}

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }  // in the names of tests

class BadInput : public testing::TestWithParam<Case> {};

TEST_P(BadInput, ClearMessageAndUntouchedDisk) {
  const Case& c = GetParam();
  const Workshop workshop;
  c.spoil(workshop);
  const auto before = snapshot(workshop.root);
  const lewis::Run result = run_lewis(workshop.scratch.path, c.arguments, workshop.root);
  EXPECT_EQ(result.code, c.code) << result.err;
  for (const std::string& piece : c.said)
    EXPECT_NE(result.err.find(piece), std::string::npos) << result.err;
  const size_t at = result.err.find("lewis: error:");
  ASSERT_NE(at, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find('\n', at), result.err.size() - 1) << "one line: " << result.err;
  EXPECT_EQ(snapshot(workshop.root), before);
}

INSTANTIATE_TEST_SUITE_P(Cli, BadInput, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace lewis
