// tokenizer_source, tokenizer and chat_template as written.
#include "recipe/tokenizer_settings.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "recipe/recipe.h"
#include "temp_dir.h"

namespace lewis {
namespace {

class TokenizerSettingsTest : public testing::Test {
 protected:
  TokenizerSettingsTest() { std::filesystem::create_directories(dir_.path / "math"); }
  Recipe parse(const std::string& text) const {
    return parse_recipe("merge_method: linear\nmodels:\n- model: math\n" + text,
                        dir_.path / "r.yml");
  }
  void expect_refused(const std::string& text, const std::string& said) const {
    try {
      parse(text);
      FAIL() << "accepted; expected: " << said << "\n" << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage) << e.what();
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("r.yml:"), std::string::npos) << e.what();
    }
  }

  TempDir dir_;
};

const std::string kFull =
    "tokenizer:\n"
    "  source: base\n"
    "  pad_to_multiple_of: 64\n"
    "  tokens:\n"
    "    <|im_start|>: {source: math}\n"
    "    \"<|im end|>\":\n"
    "      source: {kind: model_token, model: math, token: '</s>'}\n"
    "      force: true\n"
    "    <a>: {source: {kind: model_token, model: math, token_id: 7}}\n"
    "    <b>: {source: {kind: zero}, force: true}\n"
    "    <c>:\n"
    "    <d>: {}\n"
    "chat_template: \"{% for m in messages %}\\n{{ m }}{% endfor %}\"\n";

TEST_F(TokenizerSettingsTest, EveryForm) {
  EXPECT_FALSE(parse("").tokenizer);
  EXPECT_EQ(parse("tokenizer_source: union\n").tokenizer->source, "union");
  EXPECT_EQ(parse("tokenizer: {pad_to_multiple_of: 8}\n").tokenizer->source, "union");
  const TokenizerSettings s = *parse(kFull).tokenizer;
  EXPECT_EQ(s.source, "base");
  EXPECT_EQ(s.pad_to_multiple_of, 64);
  ASSERT_EQ(s.tokens.size(), 6u);
  using Kind = TokenSource::Kind;
  EXPECT_EQ(s.tokens[0].token, "<|im_start|>");
  EXPECT_EQ(s.tokens[0].source, (TokenSource{Kind::kModelToken, "math", {}, {}}));
  EXPECT_FALSE(s.tokens[0].force);
  EXPECT_EQ(s.tokens[1].token, "<|im end|>");
  EXPECT_EQ(s.tokens[1].source, (TokenSource{Kind::kModelToken, "math", "</s>", {}}));
  EXPECT_TRUE(s.tokens[1].force);
  EXPECT_EQ(s.tokens[2].source, (TokenSource{Kind::kModelToken, "math", {}, 7}));
  EXPECT_EQ(s.tokens[3].source.kind, Kind::kZero);
  EXPECT_EQ(s.tokens[4].source.kind, Kind::kDefault);
  EXPECT_EQ(s.tokens[5].source.kind, Kind::kDefault);
  EXPECT_EQ(parse(kFull).chat_template, "{% for m in messages %}\n{{ m }}{% endfor %}");
}

TEST_F(TokenizerSettingsTest, PrintedAndReadAgain) {
  for (const std::string& text :
       {kFull, std::string("tokenizer_source: union\n"), std::string("tokenizer: {source: math}\n"),
        std::string("chat_template: auto\n")}) {
    const std::string once = to_yaml(parse(text), true);
    const Recipe again = parse_recipe(once, dir_.path / "r.yml");
    EXPECT_EQ(to_yaml(again, true), once);
    EXPECT_EQ(again.chat_template, parse(text).chat_template);
    ASSERT_EQ(again.tokenizer.has_value(), parse(text).tokenizer.has_value());
    if (!again.tokenizer) continue;
    const TokenizerSettings &a = *again.tokenizer, b = *parse(text).tokenizer;
    EXPECT_EQ(a.source, b.source);
    EXPECT_EQ(a.pad_to_multiple_of, b.pad_to_multiple_of);
    ASSERT_EQ(a.tokens.size(), b.tokens.size());
    for (size_t i = 0; i < a.tokens.size(); ++i) {
      EXPECT_EQ(a.tokens[i].token, b.tokens[i].token);
      EXPECT_EQ(a.tokens[i].source, b.tokens[i].source);
      EXPECT_EQ(a.tokens[i].force, b.tokens[i].force);
    }
  }
}

TEST_F(TokenizerSettingsTest, Refusals) {
  const auto token = [](const std::string& setting) {
    return "tokenizer:\n  tokens:\n    <x>: " + setting + "\n";
  };
  expect_refused("tokenizer_source: union\ntokenizer: {}\n", "found both");
  expect_refused("tokenizer_source: [union]\n", "must be a text");
  expect_refused("tokenizer: union\n", "must be a map");
  expect_refused("tokenizer: {sorce: union}\n", "did you mean 'source'");
  expect_refused("tokenizer: {pad_to_multiple_of: 0}\n", "a whole number from 1");
  expect_refused("tokenizer: {pad_to_multiple_of: 1.5}\n", "whole number");
  expect_refused("tokenizer: {tokens: [a]}\n", "map of tokens");
  expect_refused(token("{sorce: math}"), "did you mean 'source'");
  expect_refused(token("math"), "map of keys");
  expect_refused(token("{force: maybe}"), "true or false");
  expect_refused(token("{source: {model: math}}"), "needs 'kind'");
  expect_refused(token("{source: {kind: zeros}}"), "zero or model_token");
  expect_refused(token("{source: {kind: zero, model: math}}"), "takes neither");
  expect_refused(token("{source: {kind: model_token, token: a}}"), "needs 'model'");
  expect_refused(token("{source: {kind: model_token, model: math}}"), "either 'token' or");
  expect_refused(token("{source: {kind: model_token, model: math, token: a, token_id: 1}}"),
                 "either 'token' or");
  expect_refused(token("{source: {kind: model_token, model: math, token_id: -1}}"),
                 "a whole number from 0");
  expect_refused("chat_template: [a]\n", "must be a text");
}

}  // namespace
}  // namespace lewis
