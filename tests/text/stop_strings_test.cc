#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

#include "base/text_file.h"
#include "model_folder.h"

namespace lewis {
namespace {

const std::filesystem::path kGpt2 = std::filesystem::path(LEWIS_TEST_DATA) / "tokenizers" / "gpt2";

// Llama's habits: "▁" for a space, the first one left out; characters outside the vocabulary as
// bytes.
struct LlamaLike : ModelFolder {
  LlamaLike();
};
LlamaLike::LlamaLike() {
  tokenizer["model"] = {{"type", "BPE"},
                        {"byte_fallback", true},
                        {"merges", Json::array()},
                        {"vocab",
                         {{"<unk>", 0},
                          {"<0xE2>", 1},
                          {"<0x82>", 2},
                          {"<0xAC>", 3},
                          {"▁hello", 4},
                          {"▁world", 5},
                          {"x", 6},
                          {"▁", 7}}}};
  tokenizer["decoder"] = Json::parse(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
      {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  tokenizer["pre_tokenizer"] = tokenizer["normalizer"] = nullptr;
  tokenizer["post_processor"] = nullptr;
  tokenizer["added_tokens"] = Json::array();
  write();
}

// At every length that does not end within a character the text is what decoding all tokens gives.
void expect_grows_as_decoded(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  GrowingText growing(tokenizer);
  for (size_t n = 1; n <= ids.size(); ++n) {
    growing.append(ids[n - 1]);
    const std::string whole = tokenizer.decode(std::span(ids).first(n), false);
    if (!whole.ends_with("\xEF\xBF\xBD")) {
      ASSERT_EQ(growing.text(), whole);
    }
  }
}

TEST(GrowingText, IsTheDecodedTextAtEveryToken) {
  const Tokenizer gpt2 = Tokenizer::load(kGpt2);
  const std::string text = read_text_file(kGpt2 / "expected_ids.inp");
  expect_grows_as_decoded(gpt2, gpt2.encode(text.substr(0, text.rfind('\n') / 2), false));
  expect_grows_as_decoded(gpt2, gpt2.encode("🚀 Zürich — 日本語 \u0301x\n\n  y", false));
  const LlamaLike folder;
  const Tokenizer llama = Tokenizer::load(folder.path);
  expect_grows_as_decoded(llama, {4, 5, 1, 2, 3, 6, 7, 4, 1, 2, 3, 1, 2, 3, 5});
  EXPECT_EQ(llama.decode(std::vector<int32_t>{4, 5, 1, 2, 3, 6}, false), "hello world€x");
}

// Bytes that never become a character do not hold the text up.
TEST(GrowingText, GoesOnBehindBytesThatAreNoCharacter) {
  const LlamaLike folder;
  const Tokenizer llama = Tokenizer::load(folder.path);
  GrowingText growing(llama);
  for (int i = 0; i < 50; ++i) growing.append(1);
  EXPECT_GE(growing.text().size(), 3 * 40u);
  growing.append(6);
  EXPECT_TRUE(growing.text().ends_with("x"));
}

TEST(StopStrings, AreFoundWhenTheyAreCompleteAndNotBefore) {
  const Tokenizer gpt2 = Tokenizer::load(kGpt2);
  const auto ids = gpt2.encode("An answer. And a Question: what else?", false);
  StopStrings stops(gpt2, {"", "Question:", "never"});
  std::vector<std::string> found(2);
  for (size_t n = 1; n <= ids.size(); ++n) {
    // Two texts that grow in turn do not feel each other.
    for (size_t i : {0u, 1u}) {
      const auto so_far = std::span(ids).first(n);
      if (found[i].empty() && stops.completed(i, so_far)) found[i] = gpt2.decode(so_far, false);
    }
  }
  EXPECT_EQ(found[0], "An answer. And a Question:");
  EXPECT_EQ(found[1], found[0]);
}

TEST(StopStrings, CrossTokensAndStandInSpecialTokens) {
  const LlamaLike folder;
  const Tokenizer llama = Tokenizer::load(folder.path);
  const std::vector<int32_t> ids = {4, 5, 1, 2, 3, 6};  // hello world€x
  const auto length_at_stop = [&](const std::string& stop) {
    StopStrings stops(llama, {stop});
    for (size_t n = 1; n <= ids.size(); ++n)
      if (stops.completed(0, std::span(ids).first(n))) return n;
    return size_t{0};
  };
  EXPECT_EQ(length_at_stop("o w"), 2u);
  EXPECT_EQ(length_at_stop("d€"), 5u);
  EXPECT_EQ(length_at_stop("€x"), 6u);
  EXPECT_EQ(length_at_stop(" hello"), 0u);
  EXPECT_EQ(length_at_stop("hello world€x"), 6u);
  const Tokenizer zoo = Tokenizer::load(kDemoModel);
  const std::vector<int32_t> end = {zoo.eos_id().value()};
  StopStrings stops(zoo, {zoo.eos_token()});
  EXPECT_TRUE(stops.completed(0, end));
}

}  // namespace
}  // namespace lewis
