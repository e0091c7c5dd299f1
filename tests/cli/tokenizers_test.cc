// Merges of models whose tokenizers differ, as a user runs them.
#include <gtest/gtest.h>

#include <fstream>

#include "io/checkpoint.h"
#include "run_lewis.h"
#include "temp_dir.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(LEWIS_TEST_DATA) / "golden" / "tokenizers";

void write(const fs::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

class TokenizersTest : public testing::Test {
 protected:
  TokenizersTest() { fs::copy(kGolden / "models", dir_.path, fs::copy_options::recursive); }
  lewis::Run merge(const std::string& text, const std::string& options = "") const {
    write(dir_.path / "r.yml", text);
    return run_lewis(scratch_.path, "merge r.yml out --force --quiet " + options, dir_.path);
  }
  void expect_refused(const std::string& text, int code, const std::string& said) const {
    const auto run = merge(text);
    EXPECT_EQ(run.code, code) << run.err;
    EXPECT_NE(run.err.find(said), std::string::npos) << run.err;
    EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
    EXPECT_FALSE(fs::exists(dir_.path / "out"));
  }
  void edit_json(const std::string& file, const std::function<void(Json&)>& change) const {
    Json json = read_json(dir_.path / file);
    change(json);
    write(dir_.path / file, json.dump(2));
  }
  fs::path out(const std::string& file) const { return dir_.path / "out" / file; }

  TempDir dir_, scratch_;
  const std::string linear_ =
      "merge_method: linear\nbase_model: base\nmodels:\n"
      "- {model: base, parameters: {weight: 0.2}}\n- {model: a, parameters: {weight: 0.3}}\n"
      "- {model: b, parameters: {weight: 0.5}}\n";
};

// The recipes that LEWIS's authors publish: fine-tuned models with their base's own tokenizer.
TEST(Tokenizers, TheSameTokenizerIsCopiedByteForByte) {
  const TempDir dir;
  write(dir.path / "r.yml",
        "models:\n- model: demo/models/base\n- model: demo/models/math\n  parameters:\n"
        "    density: [{filter: model.layers.0.self_attn.q_proj, value: 0.31}, {value: 1}]\n"
        "    weight: [{value: 1}]\nmerge_method: ties\nbase_model: demo/models/base\n"
        "parameters: {normalize: true, int8_mask: true}\ndtype: bfloat16\n"
        "tokenizer_source: union\n");
  const std::string where = (dir.path / "r.yml").string() + " ";
  ASSERT_EQ(run_lewis(dir.path, "merge " + where + (dir.path / "with").string()).code, 0);
  std::string text = file_text(dir.path / "r.yml");
  write(dir.path / "r.yml", text.substr(0, text.find("tokenizer_source")));
  ASSERT_EQ(run_lewis(dir.path, "merge " + where + (dir.path / "without").string()).code, 0);
  for (const char* file : {"config.json", "generation_config.json", "tokenizer.json",
                           "tokenizer_config.json", "model.safetensors"}) {
    EXPECT_EQ(file_text(dir.path / "with" / file), file_text(dir.path / "without" / file)) << file;
  }
}

TEST_F(TokenizersTest, PaddingAloneChangesRowsButNoFile) {
  const auto run = merge(
      "merge_method: linear\nmodels: [{model: base, parameters: {weight: 1}}]\n"
      "tokenizer: {source: union, pad_to_multiple_of: 16}\n");
  ASSERT_EQ(run.code, 0) << run.err;
  const Checkpoint made = Checkpoint::open(dir_.path / "out"),
                   base = Checkpoint::open(dir_.path / "base");
  EXPECT_EQ(made.get("lm_head.weight").shape, (Shape{48, 8}));
  EXPECT_EQ(made.config()["vocab_size"], 48);
  EXPECT_EQ(file_text(out("tokenizer.json")), file_text(dir_.path / "base/tokenizer.json"));
  EXPECT_EQ(file_text(out("generation_config.json")),
            file_text(dir_.path / "base/generation_config.json"));
  const auto before = base.read_floats(base.get("lm_head.weight")),
             after = made.read_floats(made.get("lm_head.weight"));
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + 37 * 8, after.begin()));
}

// The tokenizer of a fine-tuned model numbers its tokens differently: what config.json says of the
// base's must be said in the new numbers.
TEST_F(TokenizersTest, IdsInConfigsAreRenumbered) {
  edit_json("base/generation_config.json", [](Json& json) { json["eos_token_id"] = {36, 2, 35}; });
  const auto run = merge(linear_ + "tokenizer_source: a\n");
  ASSERT_EQ(run.code, 0) << run.err;
  const Tokenizer base = Tokenizer::load(dir_.path / "base"),
                  made = Tokenizer::load(dir_.path / "out");
  EXPECT_EQ(read_json(out("config.json"))["eos_token_id"], 37);
  Json expected = Json::array();
  for (const int32_t id : {36, 2, 35}) {
    if (const auto now = made.token_to_id(*base.id_to_token(id))) expected.push_back(*now);
  }
  ASSERT_LT(expected.size(), 3u) << "one is not in a";
  EXPECT_NE(run.err.find("generation_config.json: eos_token_id 35 is 'Ġthen'"), std::string::npos)
      << run.err;
  EXPECT_NE(run.err.find("has only 15 of the"), std::string::npos) << run.err;
  EXPECT_EQ(read_json(out("generation_config.json"))["eos_token_id"], expected);
  EXPECT_EQ(file_text(out("tokenizer.json")), file_text(dir_.path / "a/tokenizer.json"));
}

// What ends a text is the new tokenizer's affair: a generation that waits for the base's EOS goes
// on.
TEST_F(TokenizersTest, ConfigsFollowTheEosOfAnotherModel) {
  const std::string token = *Tokenizer::load(dir_.path / "a").id_to_token(7);
  edit_json("a/tokenizer_config.json", [&](Json& json) { json["eos_token"] = token; });
  edit_json("base/generation_config.json", [](Json& json) { json["eos_token_id"] = {36}; });
  const auto run = merge(linear_ + "tokenizer_source: a\n");
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(read_json(out("config.json"))["eos_token_id"], 7);
  EXPECT_EQ(read_json(out("generation_config.json"))["eos_token_id"], Json::array({7, 37}));
  const std::string note = "eos_token_id in config.json and generation_config.json becomes 7";
  EXPECT_NE(run.err.find(note), std::string::npos) << run.err;
  EXPECT_EQ(run.err.find(note), run.err.rfind(note)) << run.err;
  const auto own = merge(linear_ + "tokenizer_source: base\n");
  ASSERT_EQ(own.code, 0) << own.err;
  EXPECT_EQ(read_json(out("config.json"))["eos_token_id"], 36);
  EXPECT_EQ(own.err.find("eos_token_id"), std::string::npos) << own.err;
}

// A tokenizer of a folder that is not merged: tokens that no model has get zeros, and a note.
TEST_F(TokenizersTest, ATokenizerOfAnotherModel) {
  fs::create_directories(dir_.path / "other");
  fs::copy(dir_.path / "b/tokenizer.json", dir_.path / "other");
  const auto run = merge(
      "merge_method: linear\nmodels: [{model: base, parameters: {weight: 1}}]\n"
      "tokenizer_source: other\n");
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_NE(run.err.find("3 tokens are in no model, '<|im_start|>' first"), std::string::npos)
      << run.err;
  const Checkpoint made = Checkpoint::open(dir_.path / "out");
  const auto rows = made.read_floats(made.get("lm_head.weight"));
  ASSERT_EQ(rows.size(), 40u * 8);
  EXPECT_TRUE(std::all_of(rows.begin() + 37 * 8, rows.end(), [](float f) { return f == 0; }));
  EXPECT_FALSE(fs::exists(out("tokenizer_config.json"))) << "the other folder has none";
}

TEST_F(TokenizersTest, ChatTemplates) {
  const Json hello = Json::parse(R"([{"role": "user", "content": "Hi"}])");
  const auto rendered = [&] { return ChatTemplate::load(dir_.path / "out").render(hello); };
  ASSERT_EQ(merge(linear_ + "tokenizer_source: base\nchat_template: chatml\n").code, 0);
  EXPECT_EQ(rendered(), "<|im_start|>user\nHi<|im_end|>\n");
  EXPECT_EQ(Tokenizer::load(dir_.path / "out").eos_token(), "<|end|>");
  write(dir_.path / "a/chat_template.jinja", "a says {{ messages[0].content }}");
  const std::string one = "merge_method: linear\nmodels: [{model: base, parameters: {weight: 1}}";
  ASSERT_EQ(merge(linear_ + "tokenizer_source: base\nchat_template: auto\n").code, 0);
  EXPECT_EQ(rendered(), "a says Hi");
  ASSERT_EQ(merge(one + "]\nchat_template: '{{ messages[0].content }} it is'\n").code, 0);
  EXPECT_EQ(rendered(), "Hi it is");
  EXPECT_EQ(file_text(out("tokenizer.json")), file_text(dir_.path / "base/tokenizer.json"));
  EXPECT_EQ(file_text(out("config.json")), file_text(dir_.path / "base/config.json"));
  const auto none = merge(one + "]\nchat_template: auto\n");
  EXPECT_NE(none.err.find("no model has a chat template"), std::string::npos) << none.err;
}

TEST_F(TokenizersTest, TheOtherVerbsKnow) {
  write(dir_.path / "r.yml", linear_ + "tokenizer: {pad_to_multiple_of: 32}\n");
  const auto check = run_lewis(scratch_.path, "check r.yml", dir_.path);
  EXPECT_EQ(check.code, 0) << check.err;
  EXPECT_NE(check.out.find("64 rows"), std::string::npos) << check.out;
  const auto dry = run_lewis(scratch_.path, "merge r.yml out --dry-run", dir_.path);
  EXPECT_NE(dry.out.find("64 rows"), std::string::npos) << dry.out;
  const auto why = run_lewis(scratch_.path, "merge r.yml out --explain lm_head.weight", dir_.path);
  EXPECT_NE(why.out.find("37 of its own, 23 of other models, 2 means, 0 zeros, 2 padding"),
            std::string::npos)
      << why.out;
}

// A stage with a union of its own gives its tokenizer to the merge that uses it.
TEST_F(TokenizersTest, StagesHaveTheirOwn) {
  const auto run =
      merge("name: both\n" + linear_ + "tokenizer_source: union\n---\n" +
            "merge_method: linear\nmodels:\n- {model: both, parameters: {weight: 1}}\n");
  ASSERT_EQ(run.code, 0) << run.err;
  const std::string stage = file_text(out("tokenizer.json"));
  const Checkpoint made = Checkpoint::open(dir_.path / "out");
  const auto rows = made.read_floats(made.get("lm_head.weight"));
  fs::remove_all(dir_.path / "out");
  ASSERT_EQ(merge(linear_ + "tokenizer_source: union\n").code, 0);
  EXPECT_EQ(file_text(out("tokenizer.json")), stage);
  const Checkpoint direct = Checkpoint::open(dir_.path / "out");
  EXPECT_EQ(direct.read_floats(direct.get("lm_head.weight")), rows);
  EXPECT_EQ(direct.config()["vocab_size"], 62);
}

TEST_F(TokenizersTest, LittleMemoryGivesTheSame) {
  ASSERT_EQ(merge(linear_ + "tokenizer_source: union\n", "--threads 1").code, 0);
  const std::string first = file_text(out("model.safetensors"));
  ASSERT_EQ(merge(linear_ + "tokenizer_source: union\n", "--threads 2 --max-memory 100M").code, 0);
  EXPECT_EQ(file_text(out("model.safetensors")), first);
}

TEST_F(TokenizersTest, Refusals) {
  const auto token = [&](const std::string& setting) {
    return linear_ + "tokenizer: {tokens: {'<|tool|>': {source: " + setting + "}}}\n";
  };
  expect_refused(linear_, 3, "[40, 8] in base but [39, 8] in a");
  expect_refused(linear_, 3, "tokenizer_source: union");
  expect_refused(linear_ + "tokenizer_source: nowhere\n", 2, "r.yml:7: tokenizer source nowhere");
  expect_refused(token("nowhere"), 2, "none of the recipe's models");
  expect_refused(token("{kind: model_token, model: a, token: nil}"), 2, "a has no token 'nil'");
  expect_refused(token("{kind: model_token, model: a, token_id: 39}"), 2, "has 39 rows");
  expect_refused(linear_ + "tokenizer_source: base\nchat_template: lama3\n", 2, "lama3");
  edit_json("a/config.json", [](Json& json) { json.erase("vocab_size"); });
  expect_refused(linear_ + "tokenizer_source: union\n", 3, "vocab_size is missing");
  edit_json("a/config.json", [](Json& json) { json["vocab_size"] = 38; });
  expect_refused(linear_ + "tokenizer_source: union\n", 3, "38");
  edit_json("a/config.json", [](Json& json) { json["vocab_size"] = 39; });
  fs::remove(dir_.path / "a/tokenizer.json");
  expect_refused(linear_ + "tokenizer_source: union\n", 3, "tokenizer.json: missing");
}

}  // namespace
}  // namespace lewis
