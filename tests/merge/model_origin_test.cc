#include "merge/model_origin.h"

#include <gtest/gtest.h>

#include <fstream>

#include "merge/public_names.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::string verdict(std::vector<std::string> licences) {
  static constexpr const char* kNames[] = {"same", "compatible", "non-commercial", "unknown",
                                           "contradiction"};
  std::vector<ModelOrigin> parents;
  for (const std::string& licence : licences)
    parents.push_back({"o/" + licence, true, licence, ""});
  const Licence derived = derived_licence(parents);
  EXPECT_FALSE(derived.why.empty());
  return std::string(kNames[static_cast<int>(derived.verdict)]) + " " + derived.name;
}

TEST(Licences, TheTable) {
  EXPECT_EQ(verdict({"mit", "mit"}), "same mit");
  EXPECT_EQ(verdict({"apache-2.0"}), "same apache-2.0");
  EXPECT_EQ(verdict({"mit", "apache-2.0"}), "compatible apache-2.0");
  EXPECT_EQ(verdict({"apache-2.0", "mit", "bsd-3-clause"}), "compatible apache-2.0");
  EXPECT_EQ(verdict({"apache-2.0", "llama3.1"}), "compatible llama3.1");
  EXPECT_EQ(verdict({"llama3.1", "llama3.1"}), "same llama3.1");
  EXPECT_EQ(verdict({"own-terms", "own-terms"}), "same own-terms");
  EXPECT_EQ(verdict({"mit", "gpl-3.0"}), "compatible gpl-3.0");
  EXPECT_EQ(verdict({"apache-2.0", "cc-by-nc-4.0"}), "non-commercial cc-by-nc-4.0");
  EXPECT_EQ(verdict({"cc-by-nc-4.0", "cc-by-nc-4.0"}), "non-commercial cc-by-nc-4.0");
}

TEST(Licences, WhatIsNotKnownIsNotGuessed) {
  EXPECT_EQ(verdict({}), "unknown ");
  EXPECT_EQ(verdict({""}), "unknown ");
  EXPECT_EQ(verdict({"mit", ""}), "unknown ");
  EXPECT_EQ(verdict({"mit", "own-terms"}), "unknown ");
  EXPECT_EQ(verdict({"own-terms", "other-terms"}), "unknown ");
}

TEST(Licences, Contradictions) {
  EXPECT_EQ(verdict({"llama3.1", "gemma"}), "contradiction ");
  EXPECT_EQ(verdict({"gpl-3.0", "cc-by-nc-4.0"}), "contradiction ");
  EXPECT_EQ(verdict({"gemma", "mit", "cc-by-sa-4.0"}), "contradiction ");
  EXPECT_EQ(verdict({"cc-by-nc-nd-4.0"}), "contradiction ");
}

TEST(Licences, OfCards) {
  EXPECT_EQ(licence_of_card("---\nlicense: mit\ntags: [a]\n---\n# A\n"), "mit");
  EXPECT_EQ(licence_of_card("---\nlicense:\n- mit\n---\n"), "mit");
  EXPECT_EQ(licence_of_card("---\nlicense: other\nlicense_name: own-terms\n---\n"), "own-terms");
  for (const char* card : {"", "# A\nlicense: mit\n", "---\nlicense: mit\n", "---\n[\n---\n",
                           "---\nlicense: {a: b}\n---\n"})
    EXPECT_EQ(licence_of_card(card), "") << card;
}

TEST(ModelOrigins, IdsInsteadOfPaths) {
  const TempDir dir;
  const auto model = [&](const fs::path& folder, const std::string& config) {
    fs::create_directories(dir.path / folder);
    std::ofstream(dir.path / folder / "config.json") << config;
    std::ofstream(dir.path / folder / "README.md") << "---\nlicense: mit\n---\n";
    RecipeModel m;
    m.folder = dir.path / folder;
    m.model = m.folder.string();
    return m;
  };
  Recipe recipe;
  recipe.models = {model("models--o--cached/snapshots/abc", "{}"),
                   model("local", R"({"_name_or_path": "o/named"})"),
                   model("here", R"({"_name_or_path": "/home/me/x"})"), model("there/", "{")};
  std::string all;
  const PublicNames names(recipe);
  for (const ModelOrigin& o : names.origins())
    all += o.id + (o.of_hub ? " hub " : " ") + o.licence + ", ";
  EXPECT_EQ(all, "o/cached hub mit, o/named hub mit, here mit, there mit, ");
}

}  // namespace
}  // namespace lewis
