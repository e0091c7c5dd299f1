// References to models, stages and modules: the forms beyond a plain list of models.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "recipe/recipe.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class FormsTest : public testing::Test {
 protected:
  FormsTest() {
    for (const char* model : {"base", "math", "code", "lora", "odd+name"})
      fs::create_directories(dir_.path / model);
  }
  Recipe parse(const std::string& text) const { return parse_recipe(text, dir_.path / "r.yml"); }
  RecipeModel model(const std::string& written) const {
    return parse("merge_method: linear\nmodels:\n- model: " + written + "\n").models[0];
  }
  void expect_refused(const std::string& text, const std::string& said) const {
    try {
      parse(text);
      FAIL() << "accepted; expected: " << said << "\n" << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage) << e.what();
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    }
  }
  // Printed and read again, `text` says the same.
  void expect_round_trip(const std::string& text) const {
    const std::string once = to_yaml(parse(text), false);
    EXPECT_EQ(to_yaml(parse(once), false), once);
  }

  TempDir dir_;
};

TEST_F(FormsTest, References) {
  EXPECT_EQ(model("math").folder, dir_.path / "math");
  EXPECT_TRUE(model("math").adapter.empty());
  const RecipeModel adapted = model("math+lora");
  EXPECT_EQ(adapted.folder, dir_.path / "math");
  EXPECT_EQ(adapted.adapter, dir_.path / "lora");
  EXPECT_EQ(model("odd+name").folder, dir_.path / "odd+name") << "a folder of that name wins";
  const RecipeModel map = model("{model: {path: math}, lora: {path: lora}}");
  EXPECT_TRUE(is_same_model(map, adapted));
  EXPECT_EQ(map.model, "math+lora");
  EXPECT_FALSE(is_same_model(map, model("math")));
  expect_refused("merge_method: linear\nmodels:\n- model: math+lora+lora\n", "MODEL+ADAPTER");
  expect_refused("merge_method: linear\nmodels:\n- model: math+nowhere\n", "adapter nowhere");
  expect_refused("merge_method: linear\nmodels:\n- model: {model: math, lore: lora}\n", "'lora'");
  expect_round_trip("merge_method: linear\nmodels:\n- model: math+lora\n- model: math\n");
}

const char* const kStages =
    "merge_method: slerp\nbase_model: left\nmodels:\n- model: left\n- model: right\nparameters: "
    "{t: "
    "0.5}\n"
    "---\nname: left\nmerge_method: linear\nmodels:\n- model: math\n  parameters: {weight: 1}\n"
    "---\nname: right\nmerge_method: linear\nmodels:\n- model: left\n  parameters: {weight: 1}\n- "
    "model: code\n  parameters: {weight: 2}\n";

TEST_F(FormsTest, DocumentsAreStages) {
  const Recipe recipe = parse(kStages);
  EXPECT_EQ(recipe.merge_method, "slerp");
  EXPECT_EQ(recipe.text, kStages);
  ASSERT_EQ(recipe.models.size(), 2u);
  const auto &left = recipe.models[0].stage, &right = recipe.models[1].stage;
  ASSERT_TRUE(left && right);
  EXPECT_EQ(recipe.base_index, 0u);
  EXPECT_EQ(left->models[0].folder, dir_.path / "math");
  EXPECT_EQ(right->models[0].stage, left) << "one stage, however often it is used";
  const std::vector<fs::path> folders = source_folders(recipe);
  for (const char* name : {"math", "code"})
    EXPECT_NE(std::ranges::find(folders, dir_.path / name), folders.end());
  expect_round_trip(kStages);
}

TEST_F(FormsTest, DocumentsMustLeadToOneModel) {
  const std::string one = "merge_method: linear\nmodels:\n- model: math\n";
  expect_refused(one + "---\n" + one, "which is the model?");
  expect_refused("name: a\n" + one + "---\nname: a\n" + one, "the name a");
  expect_refused(
      "name: a\nmerge_method: linear\nmodels:\n- model: b\n---\nname: b\nmerge_method: "
      "linear\nmodels:\n- model: a\n",
      "made from itself");
  EXPECT_EQ(parse("name: only\n" + one).name, "only");
  EXPECT_EQ(parse("---\n" + one + "---\n").models.size(), 1u) << "an empty document counts not";
}

const char* const kModules =
    "merge_method: task_arithmetic\nbase_model: base\nmodules:\n"
    "  text_decoder:\n    models:\n    - model: math\n      parameters: {weight: 0.5}\n"
    "    parameters: {lambda: 2}\n"
    "  vision_tower:\n    models:\n    - model: code\n      parameters: {weight: 0.25}\n";

TEST_F(FormsTest, SeveralModules) {
  const Recipe recipe = parse(kModules);
  ASSERT_EQ(recipe.modules.size(), 2u);
  const Recipe &text = *recipe.modules[0].recipe, &vision = *recipe.modules[1].recipe;
  EXPECT_EQ(recipe.modules[1].name, "vision_tower");
  EXPECT_EQ(resolve(text, "weight", 0, "x", 0), 0.5);
  EXPECT_EQ(resolve(text, "lambda", std::nullopt, "x", 0), 2);
  EXPECT_EQ(resolve(vision, "lambda", std::nullopt, "x", 0), std::nullopt);
  EXPECT_EQ(vision.base_index, 1u) << "the base is appended to each module";
  EXPECT_EQ(source_folders(recipe).size(), 3u);
  expect_round_trip(kModules);
  expect_refused("merge_method: linear\nmodules: {}\n", "modules");
}

}  // namespace
}  // namespace lewis
