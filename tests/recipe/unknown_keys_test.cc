// Unknown keys of recipes: where known ones belong, which are ignored on request; sections without
// any key.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "recipe/recipe.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class UnknownKeysTest : public testing::Test {
 protected:
  UnknownKeysTest() {
    for (const char* model : {"base", "math"}) fs::create_directories(dir_.path / model);
    std::ofstream(dir_.path / "t.txt") << "text";
  }
  Recipe parse(const std::string& text, UnknownKeys unknown = UnknownKeys::kRefused) const {
    return parse_recipe(text, dir_.path / "r.yml", {}, unknown);
  }
  std::string refused(const std::string& text) const {
    try {
      parse(text);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage);
      return e.what();
    }
    return "accepted";
  }

  TempDir dir_;
};

struct Misplaced {
  std::string text, hint;
  size_t notes = 1;  // with UnknownKeys::kNoted
};
const std::string kHead = "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n";
const std::vector<Misplaced> kMisplaced = {
    {kHead + "select_topk: .15\n", "'select_topk' is a parameter: write it under 'parameters'"},
    {kHead + "density: 1\n", "'density' is a parameter: write it under 'parameters'"},
    {kHead + "parameters: {dtype: float32}\n", "'dtype' belongs to the top of the recipe"},
    {kHead + "parameters: {tokenizer_source: union}\n",
     "'tokenizer_source' belongs to the top of the recipe"},
    {kHead + "  revision: v0\n", "MODEL@REVISION"},
    {kHead + "  density: 0.5\n  weight: 0.5\n", "'density' is a parameter", 2},
    {kHead + "  lora: x\n", "MODEL+ADAPTER"},
    {kHead + "calibration: []\n", "'calibration' belongs to the section 'lewis'"},
    {kHead + "ridge: 1\n",
     "'ridge' belongs to lewis.refine; as a parameter of a method it is written under "
     "'parameters'"},
    {"merge_method: slerp\nslices:\n- sources: [{model: math, layer_range: [0, 2]}]\n  "
     "merge_method: slerp\n",
     "a recipe has one merge_method"},
    {"merge_method: slerp\nslices:\n- sources: [{model: math, layer_range: [0, 2], t: 0.5}]\n",
     "'t' is a parameter"},
    {kHead + "layer_range: [0, 1]\n", "'layer_range' belongs to an item of 'sources'"}};

TEST_F(UnknownKeysTest, AKnownKeyIsToldItsPlace) {
  for (const Misplaced& m : kMisplaced) {
    const std::string said = refused(m.text);
    EXPECT_NE(said.find(m.hint), std::string::npos) << said << "\n" << m.text;
    EXPECT_EQ(said.find("did you mean"), std::string::npos) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
  EXPECT_NE(refused(kHead + "paramters: {}\n").find("did you mean 'parameters'"),
            std::string::npos);
}

TEST_F(UnknownKeysTest, LenientlyTheyAreNotes) {
  for (const Misplaced& m : kMisplaced) {
    const Recipe recipe = parse(m.text, UnknownKeys::kNoted);
    ASSERT_EQ(recipe.notes.size(), m.notes) << m.text;
    EXPECT_NE(recipe.notes[0].find(m.hint), std::string::npos) << recipe.notes[0];
    EXPECT_NE(recipe.notes[0].find("ignored"), std::string::npos) << recipe.notes[0];
    EXPECT_EQ(recipe.models.size(), m.text.starts_with(kHead) ? 2u : 1u);
  }
  // A parameter of the whole merge under a model; a word that nobody knows.
  EXPECT_EQ(parse(kHead + "  parameters: {lambda: 1, density: 0.5, of_tomorrow: 1}\n",
                  UnknownKeys::kNoted)
                .notes.size(),
            2u);
  EXPECT_TRUE(parse(kHead, UnknownKeys::kNoted).notes.empty());
  // What stands in the section lewis: was meant for lewis, and values must be right everywhere.
  for (const std::string text : {"lewis: {gama: 0.3}\n", "lewis: {refine: {rigde: 1}}\n",
                                 "parameters: {density: x}\n", "dtype: float33\n"}) {
    EXPECT_THROW(parse(kHead + text, UnknownKeys::kNoted), Error) << text;
  }
}

// "refine:" without anything is "refine: {}".
TEST_F(UnknownKeysTest, ASectionWithoutKeysHasItsDefaults) {
  const std::string lewis = kHead + "lewis:\n  calibration: [{model: math, data: t.txt}]\n";
  for (const std::string value : {"", " null", " ~", " {}"}) {
    const Recipe refined = parse(lewis + "  refine:" + value + "\n");
    ASSERT_TRUE(refines(refined)) << value;
    EXPECT_EQ(*refined.lewis->refine, RefineSettings());
    EXPECT_TRUE(parse(kHead + "lewis:" + value + "\n").lewis.has_value()) << value;
    EXPECT_TRUE(parse(kHead + "tokenizer:" + value + "\n").tokenizer.has_value()) << value;
    EXPECT_TRUE(parse(kHead + "parameters:" + value + "\n").parameters.empty()) << value;
    EXPECT_NE(refused(lewis + "  aim:" + value + "\n").find("'omega' is missing"),
              std::string::npos)
        << value;
  }
  EXPECT_FALSE(refines(parse(lewis)));
}

}  // namespace
}  // namespace lewis
