// No path of this machine reaches what others read (merge/public_names.h).
#include "merge/public_names.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/path_words.h"
#include "merge/published_files.h"
#include "scoped_env.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

TEST(PathWords, LastPartsStandForPaths) {
  EXPECT_EQ(without_folders("see /home/me/x/math/config.json:3: bad"), "see config.json:3: bad");
  EXPECT_EQ(without_folders("'/a/b', (~/c/d), x=./e/f; ../g."), "'b', (d), x=f; g.");
  EXPECT_EQ(without_folders("10 MB/s, and/or, https://hub.co/o/n, owner/name, a / b"),
            "10 MB/s, and/or, https://hub.co/o/n, owner/name, a / b");
  EXPECT_EQ(without_folders("C:\\Users\\me\\math is"), "math is");
  EXPECT_EQ(
      without_folders("in runs/one/x", [](const std::string& w) { return w == "runs/one/x"; }),
      "in x");
  EXPECT_EQ(without_folders(""), "");
}

TEST(PublishedFiles, OnlyPathsChange) {
  std::vector<std::string> changed;
  const std::string json =
      "{\"_name_or_path\": \"/home/me/run\", \"a\": [\"/x/y\"],\n"
      "  \"special_tokens_map_file\" : \"/home/me/s.json\", \"bos_token\": \"/a/b\",\n"
      "  \"n\": {\"name_or_path\":\"out/run/3\", \"k\": \"q\\\"/h/x\", \"url\": \"a/b\"}}";
  EXPECT_EQ(without_folders_in_json(json, "math", changed),
            "{\"_name_or_path\": \"math\", \"a\": [\"/x/y\"],\n"
            "  \"special_tokens_map_file\" : \"s.json\", \"bos_token\": \"/a/b\",\n"
            "  \"n\": {\"name_or_path\":\"math\", \"k\": \"q\\\"/h/x\", \"url\": \"a/b\"}}");
  EXPECT_EQ(changed,
            (std::vector<std::string>{"_name_or_path", "special_tokens_map_file", "name_or_path"}));
  changed.clear();
  const std::string plain = "{\"_name_or_path\": \"owner/name\", \"x\": \"\", \"y\": \"\\/\"}\n";
  EXPECT_EQ(without_folders_in_json(plain, "math", changed), plain);
  EXPECT_TRUE(changed.empty());
}

class PublicNamesTest : public testing::Test {
 protected:
  PublicNamesTest() {
    for (const char* name : {"base", "math", "code", "lora", "a/twin", "b/twin", "tok", "b/math"})
      model(name);
    std::ofstream(root_ / "train.jsonl") << "{}\n";
    for (const char* name : {"a/train.jsonl", "b/train.jsonl"})
      std::ofstream(root_ / name) << "{}\n";
    std::ofstream(root_ / "base.st") << "x";
    std::ofstream(root_ / "math.st") << "x";
  }
  void model(const fs::path& name, const std::string& config = "{}") const {
    fs::create_directories(root_ / name);
    std::ofstream(root_ / name / "config.json") << config;
    std::ofstream(root_ / name / "tokenizer.json") << "{}";
  }
  // "%" stands for the folder of the models.
  std::string with_root(std::string text) const {
    for (size_t at; (at = text.find('%')) != text.npos;) text.replace(at, 1, root_.string());
    return text;
  }
  Recipe recipe(const std::string& text) const {
    return parse_recipe(with_root(text), dir_.path / "my-secret-recipes/r.yml");
  }
  // What is published has no tell-tale, and is the same recipe once its names are folders again.
  std::string expect_public(const std::string& text, const ModelIds& ids = {}) const {
    const Recipe r = recipe(text);
    const PublicNames names(r, ids);
    const std::string out = names.recipe_text();
    EXPECT_EQ(out.find("secret"), std::string::npos) << out;
    EXPECT_EQ(out.find(dir_.path.string()), std::string::npos) << out;
    const Recipe again = parse_recipe(names.with_folders(out, "x.yml"), "x.yml");
    EXPECT_EQ(to_yaml(again, false), to_yaml(r, false)) << out;
    EXPECT_EQ(PublicNames(again, names.ids()).recipe_text(), out);
    return out;
  }

  TempDir dir_;
  fs::path root_ = dir_.path / "secret-project";
};

TEST_F(PublicNamesTest, EveryFormOfRecipe) {
  fs::create_directories(dir_.path / "my-secret-recipes");
  const std::string models =
      "models:\n- model: %/math\n  parameters: {weight: 1}\n- {model: '%/code', parameters: "
      "{weight: [1, 2]}}\n";
  const std::string kForms[] = {
      "merge_method: linear\n" + models,
      "# of %/math, see ./secret-project/x\nmerge_method: ties # %/code/y\nbase_model: "
      "\"%/base\"\n" +
          models,
      "merge_method: linear\nmodels:\n- {model: %/math+%/lora, parameters: {weight: 1}}\n",
      "merge_method: linear\nmodels:\n- model: {model: %/math, lora: %/lora}\n  parameters: "
      "{weight: "
      "1}\n",
      "merge_method: linear\nmodels:\n- model:\n    model: {path: %/math}\n  parameters: {weight: "
      "1}\n",
      "merge_method: linear\n" + models + "tokenizer_source: %/tok\n",
      "merge_method: linear\n" + models + "tokenizer_source: \"model:%/code\"\n",
      "merge_method: linear\n" + models + "tokenizer_source: base\n",
      "merge_method: linear\n" + models + "tokenizer_source: %/base\n",
      "merge_method: ties\nbase_model: %/base\n" + models + "tokenizer_source: %/base\n",
      "merge_method: linear\n" + models +
          "tokenizer: {source: %/tok, tokens: {a: {source: %/code}, b: {source: {kind: "
          "model_token, model: %/math, token: c}}}}\n",
      "merge_method: passthrough\nslices:\n- sources:\n  - {model: %/math, layer_range: [0, 1]}\n- "
      "sources:\n  - {model: %/code, layer_range: [0, 2]}\n",
      "merge_method: linear\nmodels:\n- model: >-\n    %/math\n  parameters: {weight: 1}\n- model: "
      "|-\n    %/code\n  parameters: {weight: 1}\n",
      "name: one\nmerge_method: linear\n" + models +
          "---\nmerge_method: ties\nbase_model: %/base\nmodels:\n- {model: one, parameters: "
          "{weight: 1, density: 0.5}}\n",
      "merge_method: ties\nbase_model: %/base\n" + models +
          "parameters: {density: 0.5}\nlewis:\n  calibration:\n  - {model: %/math, data: "
          "%/train.jsonl, format: jsonl, prompt_field: q, answer_field: a}\n  - {model: %/code, "
          "statistics: {base: %/base.st, model: %/math.st}}\n",
      "merge_method: ties\nbase_model: %/base\n" + models +
          "parameters: {density: 0.5}\nlewis:\n  calibration:\n  - {model: %/math, data: "
          "%/train.jsonl, format: ids}\n  refine: {samples: 3}\n",
      "merge_method: ties\nbase_model: %/base\n" + models +
          "parameters: {density: 0.5}\nlewis:\n  calibration:\n  - {model: %/math, data: "
          "%/a/train.jsonl}\n  - {model: %/code, data: %/b/train.jsonl}\n",
      "merge_method: linear\n" + models + "tokenizer_source: %/b/math\n",
      "merge_method: linear\r\n\r\nmodels: # x\r\n- {model: %/math, parameters: {weight: 1}}\r\n",
  };
  for (const std::string& form : kForms) expect_public(form);
}

TEST_F(PublicNamesTest, TextWithoutPathsStaysByteForByte) {
  const std::string text =
      "# \xc3\xa9, 'quoted' and 10 MB/s\nmerge_method:   linear\nmodels:\n  - {model: "
      "\"owner/one\", "
      "parameters: {weight: 0.50}}\n\n  - model:   owner/two@v2  # the second\n    parameters:\n   "
      "   "
      "weight: 1e-1\n";
  const ScopedEnv cache("HF_HUB_CACHE", (dir_.path / "hub").string());
  for (const char* entry : {"models--owner--one", "models--owner--two"}) {
    fs::create_directories(dir_.path / "hub" / entry / "snapshots/abc");
    fs::create_directories(dir_.path / "hub" / entry / "refs");
    for (const char* ref : {"main", "v2"})
      std::ofstream(dir_.path / "hub" / entry / "refs" / ref) << "abc";
  }
  const Recipe r = parse_recipe(text, "r.yml");
  EXPECT_EQ(PublicNames(r).recipe_text(), text);
  EXPECT_EQ(PublicNames(r).of("owner/two@v2"), "owner/two@v2");
  EXPECT_EQ(PublicNames(r).origins().at(1).id, "owner/two");
  EXPECT_EQ(PublicNames(r).origins().at(1).commit, "abc");
  // The same by the folder of the cache.
  const std::string folder = (dir_.path / "hub/models--owner--one/snapshots/abc").string();
  const Recipe by_folder = parse_recipe(
      "merge_method: linear\nmodels: [{model: " + folder + ", parameters: {weight: 1}}]\n",
      "r.yml");
  EXPECT_EQ(PublicNames(by_folder).of(folder), "owner/one@abc");
  EXPECT_EQ(PublicNames(by_folder).clean("x " + folder + "/config.json: y"),
            "x owner/one@abc/config.json: y");
}

TEST_F(PublicNamesTest, ModelsStayDifferent) {
  const auto two = [&](const std::string& a, const std::string& b) {
    const Recipe r = recipe("merge_method: task_arithmetic\nbase_model: %/" + a +
                            "\nmodels:\n- {model: %/" + b + ", parameters: {weight: 1}}\n");
    const PublicNames names(r);
    return names.of((root_ / a).string()) + " " + names.of((root_ / b).string());
  };
  EXPECT_EQ(two("a/twin", "b/twin"), "twin-2 twin");
  model("tuned", R"({"_name_or_path": "owner/base"})");
  model("other", R"({"_name_or_path": "owner/base"})");
  model("path", R"({"_name_or_path": "/home/secret/run"})");
  EXPECT_EQ(two("base", "tuned"), "base owner/base");
  EXPECT_EQ(two("tuned", "other"), "owner/base other") << "the base has the id";
  EXPECT_EQ(two("base", "path"), "base path");
}

TEST_F(PublicNamesTest, IdsThatTheUserGives) {
  const std::string text =
      "merge_method: task_arithmetic\nbase_model: %/base\nmodels:\n- {model: %/math+%/lora, "
      "parameters: {weight: 1}}\n";
  const std::string out =
      expect_public(text, {{"base", "me/base"}, {with_root("%/lora"), "me/lora"}});
  EXPECT_NE(out.find("base_model: me/base\n"), std::string::npos) << out;
  EXPECT_NE(out.find("\"math+me/lora\""), std::string::npos) << out;
  for (const auto& [name, id] : ModelIds{{"none", "me/x"}, {"base", "no id"}, {"base", "../x"}}) {
    const Recipe r = recipe(text);
    EXPECT_THROW(PublicNames(r, {{name, id}}), Error) << name << id;
  }
}

}  // namespace
}  // namespace lewis
