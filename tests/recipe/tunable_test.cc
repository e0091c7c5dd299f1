#include "recipe/tunable.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "temp_dir.h"

namespace lewis {
namespace {

struct Files {
  Files() {
    for (const char* m : {"base", "math"}) std::filesystem::create_directories(dir.path / m);
  }
  std::string text(const std::string& lambda) const {
    return "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: "
           "{search: [0.1, 10], scale: log}, density: 0.5}\nparameters: {lambda: " +
           lambda + "}\nlewis: {gamma: {search: [0.1, 0.7], start: 0.2}}\n";
  }
  TunableRecipe parse(const std::string& lambda) const {
    return TunableRecipe::parse(text(lambda), dir.path / "r.yml");
  }
  TempDir dir;
};

TEST(Tunable, RangesHaveTheirPlaces) {
  const Files files;
  const TunableRecipe recipe = files.parse("{search: [0.5, 1.5]}");
  ASSERT_EQ(recipe.ranges().size(), 3u);
  EXPECT_EQ(recipe.ranges()[0].path, "models[0].parameters.weight");
  EXPECT_TRUE(recipe.ranges()[0].log);
  EXPECT_DOUBLE_EQ(recipe.ranges()[0].start, 1);
  EXPECT_EQ(recipe.ranges()[1].path, "parameters.lambda");
  EXPECT_EQ(recipe.ranges()[1].start, 1);
  EXPECT_EQ(recipe.ranges()[2].path, "lewis.gamma");
  EXPECT_EQ(recipe.ranges()[2].start, 0.2);
  const Recipe found = recipe.with(std::vector{0.3, 1.25, 0.4});
  EXPECT_EQ(resolve(found, "weight", 0, "x", 0), 0.3);
  EXPECT_EQ(resolve(found, "lambda", std::nullopt, "x", 0), 1.25);
  EXPECT_EQ(found.lewis->gamma, 0.4);
  EXPECT_EQ(parse_recipe(found.text, files.dir.path / "r.yml").lewis->gamma, 0.4);
  EXPECT_THROW((void)recipe.with(std::vector{0.3, 1.25, 0.9}), Error);  // above epsilon
}

TEST(Tunable, OptionsAreChosenFrom) {
  const Files files;
  const auto with = [&](const std::string& lewis) {
    return TunableRecipe::parse(
        "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {density: "
        "0.5}\n" +
            lewis,
        files.dir.path / "r.yml");
  };
  const TunableRecipe recipe = with(
      "lewis: {importance: {choose: [norm_shift, task_vector], start: task_vector}, gamma: "
      "{choose: [0.1, 0.3]}}\n");
  ASSERT_EQ(recipe.ranges().size(), 2u);
  EXPECT_EQ(recipe.ranges()[0].options, (std::vector<std::string>{"norm_shift", "task_vector"}));
  EXPECT_EQ(recipe.ranges()[0].start, 1);
  EXPECT_EQ(recipe.ranges()[1].start, 0);
  EXPECT_EQ(recipe.ranges()[1].text_of(1), "0.3");
  EXPECT_EQ(recipe.with(std::vector{0.0, 1.0}).lewis->importance, Importance::kNormShift);
  EXPECT_EQ(recipe.with(std::vector{1.0, 1.0}).lewis->importance, Importance::kTaskVector);
  EXPECT_EQ(recipe.with(std::vector{0.0, 1.0}).lewis->gamma, 0.3);
  for (const char* bad : {"{choose: [norm_shift]}", "{choose: []}", "{choose: [a, a]}",
                          "{choose: [[1], [2]]}", "{choose: [norm_shift, nothing], start: nothing}",
                          "{choose: [norm_shift, task_vector], start: x}",
                          "{choose: [norm_shift, task_vector], scale: log}"}) {
    try {
      (void)with(std::string("lewis: {importance: ") + bad + "}\n");
      FAIL() << "accepted: " << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage) << bad;
      EXPECT_NE(std::string(e.what()).find("r.yml:6"), std::string::npos) << e.what();
    }
  }
}

TEST(Tunable, BadRangesAreRefused) {
  const Files files;
  for (const char* bad :
       {"{search: [1.5, 0.5]}", "{search: [1]}", "{search: [a, b]}", "{search: [0, 1], scale: log}",
        "{search: [0, 1], scale: cube}", "{search: [0, 1], start: 2}", "{search: [0, 1], step: 2}",
        "{search: 1}"}) {
    EXPECT_THROW(files.parse(bad), Error) << bad;
  }
  EXPECT_THROW(TunableRecipe::parse("merge_method: linear\nmodels: [{model: base}]\n",
                                    files.dir.path / "r.yml"),
               Error);
}

TEST(Tunable, OtherReadersSayWhoTakesRanges) {
  const Files files;
  try {
    parse_recipe(files.text("1"), files.dir.path / "r.yml");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("r.yml:5: weight is left open"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("lewis tune"), std::string::npos);
  }
}

}  // namespace
}  // namespace lewis
