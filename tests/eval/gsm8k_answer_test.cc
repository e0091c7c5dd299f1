#include "eval/answers/gsm8k_answer.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/json.h"

namespace lewis {
namespace {

const std::vector<std::string> kStops = {"Question:", "</s>", "<|im_end|>"};

// The answers that Python's re found in each text (tools/record_gsm8k_answers.py).
TEST(Gsm8kAnswer, AgreesWithPythonsRegularExpressions) {
  const Json recorded = read_json(LEWIS_TEST_DATA "/eval/gsm8k_answers.json");
  ASSERT_GE(recorded["by_hand"], 120);
  ASSERT_GE(recorded["cases"].size(), 400u);
  for (const Json& c : recorded["cases"]) {
    const std::string text = c["text"];
    EXPECT_EQ(extract_strict(text), c["strict"]) << text;
    EXPECT_EQ(extract_chain(text), c["chain"]) << text;
    EXPECT_EQ(extract_flexible(text), c["flexible"]) << text;
    EXPECT_EQ(normalize_answer(text), c["normalized"]) << text;
    EXPECT_EQ(cut_at_stops(text, kStops), c["cut"]) << text;
  }
}

// The way of a whole answer, by hand from the specification.
TEST(Gsm8kAnswer, ComparesAsTheSpecificationSays) {
  const auto strict = [](std::string_view t) { return normalize_answer(extract_strict(t)); };
  const auto flexible = [](std::string_view t) { return normalize_answer(extract_flexible(t)); };
  const std::string gold = normalize_answer("She sells 9*2=<<9*2=18>>18.\n#### 18");
  EXPECT_EQ(gold, "18");
  EXPECT_EQ(strict("#### 18."), gold);
  EXPECT_EQ(flexible("The answer is $18."), gold);
  EXPECT_NE(flexible("18.00"), gold);  // compared as strings
  EXPECT_EQ(strict("the answer is 18"), "[invalid]");
  EXPECT_EQ(strict("#### 17\n#### 18"), "17");    // the first
  EXPECT_EQ(flexible("#### 17\n#### 18"), gold);  // the last
  EXPECT_EQ(flexible("it costs $1,000.00"), "1000.00");
  EXPECT_EQ(normalize_answer("so\n#### 1,080"), "1080");
  EXPECT_EQ(flexible("18 dollars ..."), "..");  // dots alone match too
}

TEST(Gsm8kAnswer, LongTextsAreFine) {
  const std::string digits(4'000'000, '7');
  EXPECT_EQ(extract_flexible(digits), digits);
  EXPECT_EQ(extract_strict("#### " + digits), digits);
  EXPECT_EQ(extract_flexible(std::string(4'000'000, '-')), "[invalid]");
}

}  // namespace
}  // namespace lewis
