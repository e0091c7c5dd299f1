#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <sstream>
#include <thread>

#include "base/text_file.h"
#include "model_folder.h"
#include "text/rust_border.h"

namespace lewis {
namespace {

using Ids = std::vector<int32_t>;

const std::filesystem::path kGpt2 = std::filesystem::path(LEWIS_TEST_DATA) / "tokenizers" / "gpt2";

std::string text_of(std::string_view part) { return std::string(part); }

// Texts parted by a line of its own.
std::vector<std::string> cases(const std::string& text) {
  constexpr std::string_view kBorder = "\n__ggml_vocab_test__\n";
  std::vector<std::string> result;
  size_t start = 0;
  for (size_t end; (end = text.find(kBorder, start)) != std::string::npos;
       start = end + kBorder.size()) {
    result.push_back(text.substr(start, end - start));
  }
  return result;
}

Ids numbers(std::string_view line) {
  std::istringstream in{text_of(line)};
  Ids ids;
  for (int32_t id; in >> id;) ids.push_back(id);
  return ids;
}

TEST(Tokenizer, Gpt2GivesTheExpectedIds) {
  const Tokenizer gpt2 = Tokenizer::load(kGpt2);
  const auto texts = cases(read_text_file(kGpt2 / "expected_ids.inp"));
  const std::string expected = read_text_file(kGpt2 / "expected_ids.out");
  const auto lines = split_lines(expected);
  ASSERT_EQ(texts.size(), lines.size());
  ASSERT_GT(texts.size(), 40u);
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(gpt2.encode(texts[i], false), numbers(lines[i])) << "case " << i << ": " << texts[i];
    EXPECT_EQ(gpt2.decode(numbers(lines[i]), false), texts[i]) << "case " << i;
  }
}

// Small tokenizers of the kinds that models of 2026 have (tools/record_tokenizers.py): patterns,
// bytes for unknown characters, added tokens in odd orders. Texts in 12 scripts and source code.
TEST(Tokenizer, EncodeAndDecodeAsThePythonPackage) {
  const auto folder = std::filesystem::path(LEWIS_TEST_DATA) / "tokenizers" / "made";
  const Json recorded = read_json(folder / "expected.json");
  EXPECT_EQ(recorded["expected"].size(), 11u);
  for (const auto& [name, expected] : recorded["expected"].items()) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer =
        Tokenizer::from_json(read_text_file(folder / (name + ".json")), name);
    Json texts = recorded["texts"]["lines"];
    for (const Json& text : recorded["texts"][name]) texts.push_back(text);
    ASSERT_EQ(texts.size(), expected["ids"].size());
    const Ids before = expected["before"].get<Ids>(), after = expected["after"].get<Ids>();
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::string text = texts[i].get<std::string>(), number = std::to_string(i);
      const Ids ids = expected["ids"][i].get<Ids>();
      ASSERT_EQ(tokenizer.encode(text, false), ids) << text;
      Ids all = before;
      all.insert(all.end(), ids.begin(), ids.end());
      all.insert(all.end(), after.begin(), after.end());
      ASSERT_EQ(tokenizer.encode(text, true), all) << text;
      const std::string decoded = expected["decoded"].value(number, text);
      ASSERT_EQ(tokenizer.decode(all, false), decoded) << text;
      ASSERT_EQ(tokenizer.decode(all, true),
                expected["decoded_without_special"].value(number, decoded));
    }
  }
}

TEST(Tokenizer, ZooGivesTheGoldenIds) {
  const Tokenizer zoo = Tokenizer::load(kDemoModel);
  const auto golden = std::filesystem::path(LEWIS_TEST_DATA) / "golden" / "zoo" / "golden.json";
  const Json ids = read_json(golden)["token_ids"];
  const auto row = [](const char* file) {
    const std::string text = read_text_file(std::filesystem::path(LEWIS_DEMO) / "data" / file);
    return parse_json(split_lines(text).front(), file);
  };
  const Json math = row("math_test.jsonl"), code = row("code_test.jsonl");
  EXPECT_EQ(zoo.encode("Question: " + math["question"].get<std::string>() + "\nAnswer:", true),
            ids["math_prompt_0"].get<Ids>());
  EXPECT_EQ(zoo.encode(" " + math["answer"].get<std::string>(), false),
            ids["math_answer_0"].get<Ids>());
  EXPECT_EQ(zoo.encode("\"\"\"\n" + code["text"].get<std::string>() + "\n" +
                           code["test_list"][0].get<std::string>() + "\n\"\"\"\n",
                       true),
            ids["code_prompt_0"].get<Ids>());
}

TEST(Tokenizer, NeverTruncatesPadsOrDrops) {
  ModelFolder folder;
  folder.tokenizer["truncation"] = Json::parse(
      R"({"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0})");
  folder.tokenizer["padding"] =
      Json::parse(R"({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
                      "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"})");
  folder.tokenizer["model"]["dropout"] = 0.5;
  folder.write();
  const std::string text = "How many cards does each of the friends have now?";
  const Ids plain = Tokenizer::load(kDemoModel).encode(text, true);
  const Tokenizer odd = Tokenizer::load(folder.path);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(odd.encode(text, true), plain);
}

TEST(Tokenizer, SpecialTokens) {
  ModelFolder folder;
  folder.add_bos("!", 1);
  ASSERT_EQ(folder.tokenizer["model"]["vocab"]["!"], 1);
  folder.config["eos_token"] = {{"content", "<|endoftext|>"}, {"lstrip", false}};
  folder.config["pad_token"] = nullptr;
  folder.config["padding_side"] = "left";
  folder.write();
  write_file(folder.path / "generation_config.json", R"({"eos_token_id": [0, 7]})");
  write_file(folder.path / "config.json", R"({"eos_token_id": 9})");
  const Tokenizer t = Tokenizer::load(folder.path);
  EXPECT_EQ(t.bos_id(), 1);
  EXPECT_EQ(t.bos_token(), "!");
  EXPECT_EQ(t.eos_id(), 0);
  EXPECT_EQ(t.eos_token(), "<|endoftext|>");
  EXPECT_EQ(t.pad_id(), std::nullopt);
  EXPECT_EQ(t.stop_ids(), (Ids{0, 7, 9}));
  EXPECT_TRUE(t.pads_left());

  Ids with_bos = t.encode("a cat", false);
  with_bos.insert(with_bos.begin(), 1);
  EXPECT_EQ(t.encode("a cat", true), with_bos);
  EXPECT_EQ(t.decode(with_bos, false), "!a cat");
}

TEST(Tokenizer, EosOfTheConfigWhereTheTokenizerNamesNone) {
  ModelFolder folder;
  folder.config.erase("eos_token");
  folder.write();
  EXPECT_EQ(Tokenizer::load(folder.path).eos_id(), std::nullopt);
  write_file(folder.path / "config.json", R"({"eos_token_id": [5, 6]})");
  EXPECT_EQ(Tokenizer::load(folder.path).eos_id(), 5);
  EXPECT_EQ(Tokenizer::load(folder.path).stop_ids(), (Ids{5, 6}));
  write_file(folder.path / "special_tokens_map.json", R"({"eos_token": "<|endoftext|>"})");
  EXPECT_EQ(Tokenizer::load(folder.path).stop_ids(), (Ids{0, 5, 6}));
}

TEST(Tokenizer, SpecialTokensInATextAreTokensOrText) {
  const Tokenizer t = Tokenizer::load(kDemoModel);
  const std::string text = "a<|endoftext|>b";
  const Ids tokens = t.encode(text, false);
  EXPECT_EQ(std::ranges::count(tokens, 0), 1);
  EXPECT_EQ(t.decode(tokens, true), "ab");
  EXPECT_EQ(t.decode(tokens, false), text);
  const Ids plain = t.encode(text, false, Tokenizer::SpecialText::kAsText);
  EXPECT_EQ(std::ranges::count(plain, 0), 0);
  EXPECT_EQ(t.decode(plain, true), text);
}

TEST(Tokenizer, NamesIdsAndSize) {
  const Tokenizer t = Tokenizer::load(kDemoModel);
  EXPECT_EQ(t.vocab_size(), 1024u);
  EXPECT_EQ(t.token_to_id("<|endoftext|>"), 0);
  EXPECT_EQ(t.token_to_id("no such token"), std::nullopt);
  EXPECT_EQ(t.token_to_id(""), std::nullopt);
  EXPECT_EQ(t.id_to_token(0), "<|endoftext|>");
  EXPECT_EQ(t.id_to_token(1024), std::nullopt);
  EXPECT_EQ(t.id_to_token(-1), std::nullopt);
  EXPECT_TRUE(t.encode("", true).empty());
  EXPECT_EQ(t.decode(Ids{}, false), "");
  EXPECT_EQ(t.decode(Ids{5000, 0}, false), "<|endoftext|>");
}

TEST(Tokenizer, IdentityIsThatOfTheFiles) {
  ModelFolder folder;
  folder.write();
  const std::string first = Tokenizer::load(folder.path).identity();
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(Tokenizer::load(folder.path).identity(), first);
  folder.config["padding_side"] = "left";
  folder.write();
  EXPECT_NE(Tokenizer::load(folder.path).identity(), first);
}

TEST(Tokenizer, ManyThreadsGetTheSameIds) {
  Tokenizer moved = Tokenizer::load(kDemoModel);
  const Tokenizer t = std::move(moved);
  const std::string text = "Tom packs 8 books<|endoftext|> into 2 equal parcels.";
  const Ids tokens = t.encode(text, true);
  const Ids plain = Tokenizer::load(kDemoModel).encode(text, true, Tokenizer::SpecialText::kAsText);
  std::vector<std::thread> threads;
  std::vector<int> right(4);
  for (size_t i = 0; i < right.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 50; ++k) {
        right[i] += t.encode(text, true) == tokens;
        right[i] += t.encode(text, true, Tokenizer::SpecialText::kAsText) == plain;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int count : right) EXPECT_EQ(count, 100);
}

std::string load_error(const TempDir& folder) {
  return error_of([&] { Tokenizer::load(folder.path); });
}

TEST(Tokenizer, BrokenFilesAreNamed) {
  ModelFolder folder;
  EXPECT_TRUE(contains(load_error(folder), "tokenizer.json: missing"));
  const std::string good = folder.tokenizer.dump();
  const auto expect_refused = [&](std::string_view bytes, const std::string& why) {
    write_file(folder.path / "tokenizer.json", bytes);
    EXPECT_TRUE(contains(load_error(folder),
                         (folder.path / "tokenizer.json").string() + ": not a tokenizer: " + why));
  };
  expect_refused("", "");
  expect_refused("{}", "");
  expect_refused(good.substr(0, good.size() / 2), "");
  expect_refused("[1, 2", "");
  expect_refused("\xff\xfe\x01", "the text is not UTF-8 at byte 0");
  expect_refused(std::string(1 << 20, '['), "");
  std::string random(4096, '\0');
  for (size_t i = 0; i < random.size(); ++i) random[i] = static_cast<char>(i * i * 31 + i * 7);
  expect_refused(random, "the text is not UTF-8");
}

TEST(Tokenizer, TruncatedAnywhereIsAnErrorAndNothingElse) {
  ModelFolder folder;
  const std::string good = folder.tokenizer.dump();
  for (size_t size = 0; size < good.size(); size += 997) {
    write_file(folder.path / "tokenizer.json", good.substr(0, size));
    EXPECT_TRUE(contains(load_error(folder), "not a tokenizer")) << size;
  }
}

TEST(Tokenizer, BrokenConfigsAreNamed) {
  ModelFolder folder;
  folder.config["eos_token"] = 5;
  folder.write();
  EXPECT_TRUE(contains(load_error(folder), "tokenizer_config.json: 'eos_token' must be a string"));
  folder.config["eos_token"] = nullptr;
  folder.config["padding_side"] = "top";
  folder.write();
  EXPECT_TRUE(contains(load_error(folder), "'padding_side' must be \"left\" or \"right\""));
  folder.config["padding_side"] = "left";
  folder.write();
  for (const char* bad : {R"({"eos_token_id": -1})", R"({"eos_token_id": [0, "x"]})",
                          R"({"eos_token_id": 4294967296})"}) {
    write_file(folder.path / "config.json", bad);
    EXPECT_TRUE(contains(load_error(folder), "config.json: 'eos_token_id' must be"));
  }
  write_file(folder.path / "config.json", "[]");
  EXPECT_TRUE(contains(load_error(folder), "config.json: expected a JSON object"));
}

TEST(Tokenizer, BadArgumentsAreErrors) {
  const Tokenizer t = Tokenizer::load(kDemoModel);
  EXPECT_TRUE(contains(error_of([&] { t.encode("ab\xff", true); }), "not UTF-8 at byte 2"));
  EXPECT_TRUE(contains(error_of([&] { t.decode(Ids{3, -4}, true); }), "token id -4 is negative"));
}

TEST(RustBorder, APanicBecomesAnError) {
  for (int i = 0; i < 3; ++i) {
    testing::internal::CaptureStderr();
    rust::Text error;
    EXPECT_FALSE(lewis_text_panic(error.out()));
    EXPECT_EQ(error.view(), "the text library panicked: a panic on purpose");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  }
  // And life goes on.
  EXPECT_EQ(Tokenizer::load(kDemoModel).vocab_size(), 1024u);
}

}  // namespace
}  // namespace lewis
