// Recipes, tokenizer settings and ranges refuse what YAML 1.1 and 1.2 read differently, alike
// (tests/yaml has the rule itself).
#include <gtest/gtest.h>

#include "base/error.h"
#include "recipe/parameters.h"
#include "recipe/recipe.h"
#include "recipe/tunable.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

struct Folder {
  TempDir dir;
  Folder() {
    for (const char* model : {"base", "math", "010"}) fs::create_directories(dir.path / model);
  }
  fs::path file() const { return dir.path / "r.yml"; }

  template <typename F>
  void expect_refused(const F& parse, int line, const std::string& said) const {
    try {
      parse();
      FAIL() << "accepted; expected: " << said;
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_EQ(e.code(), ExitCode::kUsage);
      EXPECT_NE(message.find(fmt::format("r.yml:{}: ", line)), std::string::npos) << message;
      EXPECT_NE(message.find(said), std::string::npos) << message;
    }
  }
  void expect_recipe_refused(const std::string& text, int line, const std::string& said) const {
    expect_refused([&] { parse_recipe(text, file()); }, line, said);
  }
};

const std::string kHead = "merge_method: ties\nbase_model: base\nmodels: [{model: math}]\n";

TEST(YamlRule, Numbers) {
  const Folder f;
  for (const char* number : {"010", "0o10", "1_0", "1:30"}) {
    f.expect_recipe_refused(kHead + "parameters: {weight: " + number + "}\n", 4,
                            std::string("weight must be a number: '") + number + "' is ");
    f.expect_recipe_refused(kHead + "tokenizer: {pad_to_multiple_of: " + number + "}\n", 4,
                            "pad_to_multiple_of must be a number");
    f.expect_refused(
        [&] {
          TunableRecipe::parse(kHead + "parameters: {weight: {search: [0, " + number + "]}}\n",
                               f.file());
        },
        4, "is ");
  }
  for (const char* number : {"1", "0.5", ".5", "1e-3", "\"1e-3\"", "1.0e-05"}) {
    EXPECT_NO_THROW(parse_recipe(kHead + "parameters: {weight: " + number + "}\n", f.file()))
        << number;
  }
}

TEST(YamlRule, Flags) {
  const Folder f;
  for (const char* flag : {"Yes", "no", "on", "Off", "y"}) {
    f.expect_recipe_refused(kHead + "parameters: {normalize: " + flag + "}\n", 4,
                            "normalize must be true or false, found");
    f.expect_recipe_refused(kHead + "tokenizer: {tokens: {\"<a>\": {force: " + flag + "}}}\n", 4,
                            "force must be true or false");
  }
  for (const char* flag : {"true", "False", "1", "0"}) {
    EXPECT_NO_THROW(parse_recipe(kHead + "parameters: {normalize: " + flag + "}\n", f.file()))
        << flag;
  }
  f.expect_recipe_refused(kHead + "parameters: {weight: yes}\n", 4, "weight must be a number");
}

TEST(YamlRule, Texts) {
  const Folder f;
  f.expect_recipe_refused("merge_method: linear\nmodels: [{model: 010}]\n", 2,
                          "write it in quotes: \"010\"");
  EXPECT_NO_THROW(parse_recipe(
      "merge_method: linear\nmodels: [{model: \"010\"}]\nparameters: {weight: 1}\n", f.file()));
  f.expect_recipe_refused(kHead + "tokenizer_source: no\n", 4, "write it in quotes: \"no\"");
  f.expect_recipe_refused(kHead + "tokenizer: {tokens: {no: {force: true}}}\n", 4,
                          "write it in quotes: \"no\"");
}

// Parameters are checked by their table (recipe/parameters.h).
TEST(ParameterTable, RangesAndKinds) {
  const Folder f;
  f.expect_recipe_refused(kHead + "parameters: {density: 1.5}\n", 4,
                          "density 1.5 is outside [0, 1]");
  f.expect_recipe_refused(kHead + "parameters: {max_iter: 2.5}\n", 4,
                          "max_iter must be a whole number from 0 to 1000000, found '2.5'");
  f.expect_recipe_refused(kHead + "parameters: {tol: -1}\n", 4, "tol must be at least 0, found");
  f.expect_recipe_refused(
      "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {lambda: 1}\n",
      5, "'lambda' is a parameter of the whole merge");
  EXPECT_EQ(find_parameter("densty"), nullptr);
  EXPECT_EQ(find_parameter("density")->name, "density");
}

}  // namespace
}  // namespace lewis
