#include "recipe/named_models.h"

#include <gtest/gtest.h>

#include "temp_dir.h"

namespace lewis {
namespace {

std::string names_in(const std::string& text, const std::filesystem::path& file = "") {
  std::string all;
  for (const NamedModel& m : named_models(text, file))
    all += m.name + (m.only_tokenizer ? " (tokenizer)" : "") + ":" + std::to_string(m.line) + " ";
  return all;
}

TEST(NamedModels, EveryWayToWriteOne) {
  EXPECT_EQ(names_in("base_model: o/base\n"
                     "models:\n"
                     "  - model: o/a@v1\n"
                     "  - model: o/b+o/lora\n"
                     "  - {model: {path: o/c, revision: v2}}\n"
                     "  - {model: {model: o/d, lora: {path: o/e}}}\n"
                     "  - model: o/base\n"),
            "o/base:1 o/a@v1:3 o/b:4 o/lora:4 o/c@v2:5 o/d:6 o/e:6 ");
  EXPECT_EQ(names_in("slices:\n  - sources:\n      - {model: o/a, layer_range: [0, 1]}\n"),
            "o/a:3 ");
  EXPECT_EQ(names_in("modules:\n  default:\n    slices:\n      - sources: [{model: o/a}]\n"),
            "o/a:4 ");
}

TEST(NamedModels, TokenizersComeWithoutWeights) {
  EXPECT_EQ(names_in("models: [{model: o/a}]\ntokenizer_source: o/t\n"),
            "o/a:1 o/t (tokenizer):2 ");
  EXPECT_EQ(names_in("models: [{model: o/a}]\ntokenizer: {source: model:o/a}\n"), "o/a:1 ");
  EXPECT_EQ(names_in("tokenizer_source: union\n"), "");
}

TEST(NamedModels, DocumentsFoldersAndOtherKeysAreNone) {
  const TempDir dir;
  std::filesystem::create_directories(dir.path / "o/here");
  EXPECT_EQ(names_in("name: stage\nmodels: [{model: o/a}]\n---\nbase_model: stage\n"
                     "models: [{model: o/here}]\nlewis: {calibration: [{model: o/a, data: x}]}\n",
                     dir.path / "r.yml"),
            "o/a:2 ");
}

}  // namespace
}  // namespace lewis
