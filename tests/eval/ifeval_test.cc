#include "eval/answers/ifeval.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "eval/answers/english_text.h"
#include "eval/answers/language.h"

namespace lewis {
namespace {

// Verdicts of lm-evaluation-harness's checkers (tools/record_ifeval.py): each response against each
// rule. Its model of sentences was trained on other text (it does not know "U.S." or "fig."), and
// langdetect takes texts as short as {"a": 1} for Portuguese: of these two a few may differ.
TEST(Ifeval, AgreesWithTheHarness) {
  const Json recorded = read_json(LEWIS_TEST_DATA "/eval/ifeval.json");
  const std::vector<IfevalRule> rules = read_ifeval_rules(recorded, "recorded");
  size_t verdicts = 0, languages = 0, sentences = 0;
  for (const Json& c : recorded["cases"]) {
    const std::string response = c["response"], strict = c["strict"], loose = c["loose"];
    const IfevalVerdict verdict = check_ifeval(rules, response);
    sentences += count_sentences(response) != c["sentences"];
    for (size_t i = 0; i < rules.size(); ++i) {
      if (rules[i].id == "length_constraints:number_sentences") continue;
      ++verdicts;
      const bool same =
          verdict.strict[i] == (strict[i] == '1') && verdict.loose[i] == (loose[i] == '1');
      if (rules[i].id.starts_with("language:") || rules[i].id.starts_with("change_case:english")) {
        languages += !same;
      } else {
        EXPECT_TRUE(same) << rules[i].id << rules[i].arguments << response;
      }
    }
  }
  EXPECT_GE(verdicts, 10'000u);
  EXPECT_LE(languages, 12u);
  EXPECT_LE(sentences, 7u);
}

TEST(Ifeval, KnowsAllRules) {
  const auto ids = ifeval_rule_ids();
  EXPECT_EQ(std::set(ids.begin(), ids.end()).size(), 25u);
}

void expect_refused(const char* row, const std::string& message) {
  try {
    read_ifeval_rules(parse_json(row, "test"), "data.jsonl:7");
    ADD_FAILURE() << row;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_EQ(std::string(e.what()), message);
  }
}

TEST(Ifeval, RefusesRowsThatCannotBeScored) {
  expect_refused(R"({"instruction_id_list": ["punctuation:no_coma"], "kwargs": [{}]})",
                 "data.jsonl:7: unknown instruction 'punctuation:no_coma'; did you mean "
                 "'punctuation:no_comma'?");
  expect_refused(R"({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []})",
                 "data.jsonl:7: 1 instructions in instruction_id_list, but 0 in kwargs");
  expect_refused(R"({"kwargs": []})", "data.jsonl:7: field instruction_id_list must be a list");
  expect_refused(
      R"({"instruction_id_list": ["detectable_format:number_bullet_lists"], "kwargs": [{"num_bullets": null}]})",
      "data.jsonl:7: instruction detectable_format:number_bullet_lists lacks its argument "
      "num_bullets");
  expect_refused(
      R"({"instruction_id_list": ["detectable_format:number_bullet_lists"], "kwargs": [{"num_bullets": "3"}]})",
      "data.jsonl:7: argument num_bullets of instruction detectable_format:number_bullet_lists "
      "must be a number, not \"3\"");
}

// Where the harness draws a letter at random, the letter that was asked for is counted.
TEST(Ifeval, CountsSignsThatAreNoLetters) {
  const std::vector<IfevalRule> rules = {
      {"keywords:letter_frequency",
       {{"letter", "#"}, {"let_frequency", 2}, {"let_relation", "at least"}}}};
  EXPECT_TRUE(check_ifeval(rules, "## heading").strict[0]);
  EXPECT_FALSE(check_ifeval(rules, "# heading").strict[0]);
}

TEST(Language, IsEmptyWithoutLetters) { EXPECT_EQ(detect_language("123 ... !"), ""); }

}  // namespace
}  // namespace lewis
