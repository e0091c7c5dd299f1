#include "text/tokenizer_merge.h"

#include <gtest/gtest.h>

#include "base/text_file.h"
#include "model_folder.h"
#include "text/tokenizer.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

const fs::path kGolden = fs::path(LEWIS_TEST_DATA) / "golden" / "tokenizers" / "models";
const fs::path kGpt2 = fs::path(LEWIS_TEST_DATA) / "tokenizers" / "gpt2";

TokenizerRequest union_of(std::vector<TokenizerInput> models) {
  TokenizerRequest request;
  request.models = std::move(models);
  request.source = request.models.at(0);
  request.unite = true;
  return request;
}

TokenizerRequest golden_union() {
  return union_of({{kGolden / "base", 40}, {kGolden / "a", 39}, {kGolden / "b", 40}});
}

int32_t id_of(const MergedTokenizer& merged, const std::string& token) {
  const auto at = std::ranges::find(merged.tokens, token);
  return at == merged.tokens.end() ? -1 : static_cast<int32_t>(at - merged.tokens.begin());
}

Json added_token(int id, const std::string& text, bool special = true) {
  return {{"id", id},       {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", true}, {"normalized", false}, {"special", special}};
}

TEST(TokenizerMerge, UnionKeepsTheSourceAndAddsInOrder) {
  const MergedTokenizer merged = merge_tokenizers(golden_union());
  const Tokenizer base = Tokenizer::load(kGolden / "base"), a = Tokenizer::load(kGolden / "a"),
                  b = Tokenizer::load(kGolden / "b");
  const Tokenizer made = Tokenizer::load(merged.files);
  ASSERT_EQ(merged.tokens.size(), 62u);  // as mergekit counts them
  EXPECT_EQ(made.vocab_size(), 62u);
  int32_t last_of_a = -1;
  for (int32_t id = 0; id < 62; ++id) {
    const std::string& token = merged.tokens[static_cast<size_t>(id)];
    EXPECT_EQ(made.token_to_id(token), id) << token;
    if (id < 37) {
      EXPECT_EQ(base.token_to_id(token), id) << token;
    }
    if (id >= 37 && a.token_to_id(token)) {  // those of a, by id; then those of b
      EXPECT_GT(*a.token_to_id(token), last_of_a);
      last_of_a = *a.token_to_id(token);
    }
    for (const auto& [model, tokenizer] : {std::pair(0, &base), {1, &a}, {2, &b}}) {
      EXPECT_EQ(merged.rows_of(static_cast<size_t>(model))[static_cast<size_t>(id)],
                tokenizer->token_to_id(token).value_or(-1))
          << token;
    }
  }
  EXPECT_EQ(id_of(merged, "<|tool|>"), 61) << "only b has it";
}

TEST(TokenizerMerge, TextsAreTokenizedAsBeforeAndNewOnesAsInTheOther) {
  const Tokenizer made = Tokenizer::load(merge_tokenizers(golden_union()).files);
  const Tokenizer base = Tokenizer::load(kGolden / "base"), a = Tokenizer::load(kGolden / "a");
  for (const char* text : {"the cat sat on the mat", "that hat then", "oat tree<|end|> the man"}) {
    EXPECT_EQ(made.encode(text, false), base.encode(text, false)) << text;
    EXPECT_EQ(made.decode(made.encode(text, false), false), text);
  }
  // Letters that only a has: its merges join them.
  for (const char* text : {" five", " some", "counting"}) {
    const Ids ids = made.encode(text, false), in_a = a.encode(text, false);
    EXPECT_EQ(made.decode(ids, false), text);
    EXPECT_LT(ids.size(), std::string_view(text).size()) << text;
    EXPECT_LE(in_a.size(), ids.size());
  }
  EXPECT_EQ(made.encode("<|im_start|>", false).size(), 1u);
  EXPECT_EQ(made.decode(made.encode("a<|im_start|>", false), true), "a") << "still special";
}

TEST(TokenizerMerge, TheSameTokenizerChangesNoFile) {
  const MergedTokenizer merged = merge_tokenizers(union_of({{kDemoModel, 1024}, {kDemoModel, 0}}));
  EXPECT_TRUE(merged.files.changed.empty());
  EXPECT_EQ(merged.files.folder, kDemoModel);
  EXPECT_EQ(merged.tokens.size(), 1024u);
  EXPECT_TRUE(merged.warnings.empty());
  for (size_t id = 0; id < 1024; ++id) EXPECT_EQ(merged.rows_of(1)[id], static_cast<int32_t>(id));
}

// The common case: the same vocabulary, and each fine-tuned model has added tokens of its own.
TEST(TokenizerMerge, AddedTokensKeepTheirFlags) {
  ModelFolder one, two;
  one.tokenizer["added_tokens"].push_back(added_token(1024, "<|one|>"));
  one.tokenizer["added_tokens"].push_back(added_token(1025, "<|both|>"));
  two.tokenizer["added_tokens"].push_back(added_token(1024, "<|both|>"));
  two.tokenizer["added_tokens"].push_back(added_token(1025, "<think>", false));
  for (ModelFolder* m : {&one, &two}) m->write();
  auto request = union_of({{kDemoModel, 1024}, {one.path, 1026}, {two.path, 1026}});
  request.tokens = {"<|both|>", "<extra>"};
  const MergedTokenizer merged = merge_tokenizers(request);
  EXPECT_EQ(merged.tokens.size(), 1028u);
  EXPECT_EQ(id_of(merged, "<|one|>"), 1024);
  EXPECT_EQ(id_of(merged, "<|both|>"), 1025);
  EXPECT_EQ(id_of(merged, "<think>"), 1026);
  EXPECT_EQ(id_of(merged, "<extra>"), 1027);
  EXPECT_EQ(merged.rows_of(2)[1025], 1024);
  EXPECT_EQ(merged.rows_of(1)[1026], -1);
  const Json made = parse_json(*merged.files.read("tokenizer.json"), "made");
  std::map<std::string, Json> added;
  for (const Json& t : made["added_tokens"]) added[t["content"].get<std::string>()] = t;
  EXPECT_EQ(added["<|one|>"]["rstrip"], true);
  EXPECT_EQ(added["<|one|>"]["special"], true);
  EXPECT_EQ(added["<think>"]["special"], false);
  EXPECT_EQ(added["<extra>"]["special"], false);
  EXPECT_EQ(added["<think>"]["id"], 1026);
  const Tokenizer tokenizer = Tokenizer::load(merged.files), base = Tokenizer::load(kDemoModel);
  const std::string text = read_text_file(fs::path(LEWIS_DEMO) / "data" / "math_test.jsonl");
  EXPECT_EQ(tokenizer.encode(text.substr(0, 20000), false),
            base.encode(text.substr(0, 20000), false));
  EXPECT_EQ(tokenizer.encode("<extra>", false), Ids{1027});
  EXPECT_EQ(tokenizer.eos_token(), "<|endoftext|>");
}

TEST(TokenizerMerge, TokensWithoutARowAreLeftOut) {
  ModelFolder m;
  m.tokenizer["added_tokens"].push_back(added_token(1024, "<pad>"));
  m.tokenizer["added_tokens"].push_back(added_token(1025, "<|x|>"));
  m.config["pad_token"] = "<|x|>";
  m.config["additional_special_tokens"] = {"<pad>", "<|x|>"};
  m.config["added_tokens_decoder"] = {{"1025", added_token(1025, "<|x|>")}};
  m.config["model_max_length"] = 1e30;
  m.write();
  write_file(m.path / "special_tokens_map.json", R"({"pad_token": {"content": "<|x|>"}})");
  write_file(m.path / "added_tokens.json", R"({"<|x|>": 1025})");
  TokenizerRequest request;
  request.models = {{m.path, 1025}};
  request.source = request.models[0];
  const MergedTokenizer merged = merge_tokenizers(request);
  EXPECT_EQ(merged.tokens.size(), 1025u);
  ASSERT_EQ(merged.warnings.size(), 2u);
  EXPECT_TRUE(contains(merged.warnings[0] + merged.warnings[1], "pad_token '<|x|>'"));
  const Tokenizer made = Tokenizer::load(merged.files);
  EXPECT_FALSE(made.token_to_id("<|x|>"));
  EXPECT_EQ(made.token_to_id("<pad>"), 1024);
  const std::string config = *merged.files.read("tokenizer_config.json");
  EXPECT_TRUE(contains(config, "\"model_max_length\": 1000000000000000019884624838656"));
  const Json json = parse_json(config, "config");
  EXPECT_FALSE(json.contains("pad_token"));
  EXPECT_EQ(json["additional_special_tokens"], Json::array({"<pad>"}));
  EXPECT_EQ(json["added_tokens_decoder"].size(), 2u);
  EXPECT_EQ(json["added_tokens_decoder"]["1024"]["content"], "<pad>");
  EXPECT_EQ(*merged.files.read("special_tokens_map.json"), "{}\n");
  EXPECT_FALSE(merged.files.read("added_tokens.json"));
}

// A tokenizer whose merges are written "a b" keeps that form.
TEST(TokenizerMerge, MergesAsTexts) {
  const auto as_texts = [](const fs::path& from, const fs::path& to) {
    Json json = read_json(from / "tokenizer.json");
    for (Json& merge : json["model"]["merges"])
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    write_file(to / "tokenizer.json", json.dump());
  };
  TempDir base, a;
  as_texts(kGolden / "base", base.path);
  as_texts(kGolden / "a", a.path);
  const auto texts = merge_tokenizers(union_of({{base.path, 40}, {a.path, 39}}));
  const auto lists = merge_tokenizers(union_of({{kGolden / "base", 40}, {kGolden / "a", 39}}));
  EXPECT_EQ(texts.tokens, lists.tokens);
  const Json made = parse_json(*texts.files.read("tokenizer.json"), "made");
  EXPECT_TRUE(made["model"]["merges"][0].is_string());
  EXPECT_EQ(Tokenizer::load(texts.files).encode("counting the cat, five", false),
            Tokenizer::load(lists.files).encode("counting the cat, five", false));
}

// ▁ for spaces, as SentencePiece writes; two added tokens behind the pieces.
Json unigram(const Json& pieces, const std::vector<std::string>& added) {
  Json json = Json::parse(R"({"version": "1.0", "added_tokens": [], "normalizer": null,
      "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
      "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
      "model": {"type": "Unigram", "unk_id": 0, "vocab": []}})");
  json["model"]["vocab"] = pieces;
  for (size_t i = 0; i < added.size(); ++i)
    json["added_tokens"].push_back(added_token(static_cast<int>(pieces.size() + i), added[i]));
  return json;
}

TEST(TokenizerMerge, UnigramPiecesComeWithTheirScores) {
  TempDir base, other;
  const Json pieces = Json::parse(R"([["<unk>", 0.0], ["▁", -3.0], ["a", -4.0], ["b", -4.5],
                                      ["▁ab", -2.0]])");
  const Json more = Json::parse(R"([["<unk>", 0.0], ["▁", -3.0], ["a", -4.0], ["c", -4.5],
                                    ["▁ac", -2.5]])");
  write_file(base.path / "tokenizer.json", unigram(pieces, {"<s>", "<x>"}).dump());
  write_file(other.path / "tokenizer.json", unigram(more, {"<s>", "<y>"}).dump());
  const MergedTokenizer merged = merge_tokenizers(union_of({{base.path, 7}, {other.path, 7}}));
  EXPECT_EQ(merged.tokens, (std::vector<std::string>{"<unk>", "▁", "a", "b", "▁ab", "<s>", "<x>",
                                                     "c", "▁ac", "<y>"}));
  const Tokenizer made = Tokenizer::load(merged.files);
  EXPECT_EQ(made.encode("ab ac<y>", false), (Ids{4, 8, 9}));
  EXPECT_EQ(made.encode("ab ab<x>", false), Tokenizer::load(base.path).encode("ab ab<x>", false));
}

TEST(TokenizerMerge, RefusesWhatHasNoUnion) {
  TempDir pieces;
  const Json vocabulary = Json::parse(R"([["<unk>", 0.0], ["▁x", -3.0]])");
  write_file(pieces.path / "tokenizer.json", unigram(vocabulary, {}).dump());
  const auto of = [](const fs::path& a, const fs::path& b) {
    return error_of([&] { merge_tokenizers(union_of({{a, 0}, {b, 0}})); });
  };
  EXPECT_TRUE(contains(of(kDemoModel, pieces.path), "cannot be united"));
  EXPECT_TRUE(contains(of(kDemoModel, pieces.path), "Unigram"));
  ModelFolder plain;  // the same model, whose tokens are not in letters for bytes
  plain.tokenizer["pre_tokenizer"] = nullptr;
  plain.tokenizer["decoder"] = nullptr;
  plain.tokenizer["model"]["vocab"]["new"] = 1024;
  plain.write();
  EXPECT_TRUE(contains(of(kDemoModel, plain.path), "of bytes"));
  ModelFolder huge;
  huge.tokenizer["model"]["vocab"]["new"] = 4'000'000'000u;
  huge.write();
  EXPECT_TRUE(contains(of(kDemoModel, huge.path), "'new' has id 4000000000"));
  TempDir empty;
  EXPECT_TRUE(contains(of(kDemoModel, empty.path), "tokenizer.json: missing"));
  write_file(empty.path / "tokenizer.json", "{\"model\": 1}");
  EXPECT_TRUE(contains(of(kDemoModel, empty.path), "not a tokenizer"));
}

TEST(TokenizerMerge, WarnsOfWhatIsDoubtful) {
  const MergedTokenizer merged = merge_tokenizers(union_of({{kDemoModel, 0}, {kGpt2, 0}}));
  EXPECT_GT(merged.tokens.size(), 50257u);
  std::string all;
  for (const std::string& line : merged.warnings) all += line + "\n";
  EXPECT_TRUE(contains(all, "pre_tokenizer of"));
  EXPECT_TRUE(contains(all, "has only"));
  const Tokenizer made = Tokenizer::load(merged.files);
  EXPECT_EQ(made.decode(made.encode("Wörter, naïve 你好 🙂", false), false),
            "Wörter, naïve 你好 🙂");
}

}  // namespace
}  // namespace lewis
