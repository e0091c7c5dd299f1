#include <gtest/gtest.h>

#include "model_folder.h"
#include "text/dataset.h"

namespace lewis {
namespace {

using Ids = std::vector<int32_t>;

std::vector<DataItem> demo_data(const char* file, const char* format) {
  DataOptions options;
  options.file = std::filesystem::path(LEWIS_DEMO) / "data" / file;
  options.format = value_of<DataFormat>(format, "data format");
  return read_data(options, nullptr);
}

// The tokens that the authors' program fed to the models, row for row and id for id.
void expect_golden(const char* expert, const char* file, const char* format) {
  const Json golden = read_json(std::filesystem::path(LEWIS_TEST_DATA) / "golden" / "lewis" /
                                expert / "calibration.json");
  const Tokenizer tokenizer = Tokenizer::load(kDemoModel);
  const auto items = demo_data(file, format);
  const CalibrationText how{.samples = 15, .reference = true};
  const auto sequences = calibration_sequences(items, &tokenizer, how);
  ASSERT_EQ(sequences.size(), 15u);
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_EQ(items[golden["rows"][i].get<size_t>()].reference_text,
              golden["text"][i].get<std::string>());
    EXPECT_EQ(sequences[i].ids, golden["ids"][i].get<Ids>()) << "sample " << i;
  }
}

TEST(CalibrationText, ReferenceFeedsWhatTheAuthorsFed) {
  expect_golden("math", "math_train.jsonl", "gsm8k");
  expect_golden("code", "code_train.jsonl", "mbpp");
}

TEST(CalibrationText, CleanFeedsTheSameItemsWithoutPadding) {
  const Tokenizer tokenizer = Tokenizer::load(kDemoModel);
  const auto items = demo_data("math_train.jsonl", "gsm8k");
  const auto sequences = calibration_sequences(items, &tokenizer, {.samples = 3});
  ASSERT_EQ(sequences.size(), 3u);
  const TokenSequence first = tokenize(tokenizer, items[978]);
  EXPECT_EQ(sequences[0].ids, first.ids);
  EXPECT_EQ(sequences[0].prompt_tokens, first.prompt_tokens);
  EXPECT_EQ(sequences[1].ids, tokenize(tokenizer, items[933]).ids);

  const auto cut = calibration_sequences(items, &tokenizer, {.samples = 1, .max_tokens = 10});
  EXPECT_EQ(cut[0].ids, Ids(first.ids.begin(), first.ids.begin() + 10));
  EXPECT_EQ(cut[0].prompt_tokens, 10u);

  EXPECT_EQ(calibration_sequences(items, &tokenizer, {}).size(), items.size());
  EXPECT_EQ(calibration_sequences(items, &tokenizer, {})[0].ids, tokenize(tokenizer, items[0]).ids);
  EXPECT_EQ(calibration_sequences(items, &tokenizer, {.samples = 5000}).size(), items.size());
  EXPECT_NE(calibration_sequences(items, &tokenizer, {.samples = 1, .seed = 1})[0].ids, first.ids);
}

DataItem ids_item(Ids ids) {
  DataItem item;
  item.kind = DataItem::Kind::kIds;
  item.ids = std::move(ids);
  item.where = "data.jsonl:1";
  return item;
}

// An earlier choice and what follows it are the larger choice.
TEST(CalibrationText, SkippedItemsAreThoseOfTheEarlierChoice) {
  const auto items = demo_data("math_train.jsonl", "gsm8k");
  const Tokenizer tokenizer = Tokenizer::load(kDemoModel);
  const auto all = calibration_sequences(items, &tokenizer, {.samples = 7});
  const auto first = calibration_sequences(items, &tokenizer, {.samples = 3});
  const auto rest = calibration_sequences(items, &tokenizer, {.samples = 4, .skip = 3});
  ASSERT_EQ(rest.size(), 4u);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), all.begin()));
  EXPECT_TRUE(std::equal(rest.begin(), rest.end(), all.begin() + 3));
  EXPECT_EQ(
      calibration_sequences(items, &tokenizer, {.samples = 4, .skip = items.size() - 1}).size(),
      1u);
  EXPECT_TRUE(
      calibration_sequences(items, &tokenizer, {.samples = 4, .skip = items.size()}).empty());
}

TEST(CalibrationText, IdsStayInTheirOrder) {
  const std::vector<DataItem> items = {ids_item({1, 2, 3}), ids_item({4}), ids_item({5, 6})};
  const auto two = calibration_sequences(items, nullptr, {.samples = 2, .max_tokens = 2});
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].ids, (Ids{1, 2}));
  EXPECT_EQ(two[1].ids, (Ids{4}));
  const Tokenizer tokenizer = Tokenizer::load(kDemoModel);
  for (const Tokenizer* known : {static_cast<const Tokenizer*>(nullptr), &tokenizer}) {
    for (const size_t most : {size_t{3}, SIZE_MAX}) {  // as they are: never padded
      const auto all = calibration_sequences(items, known, {.max_tokens = most, .reference = true});
      EXPECT_EQ(all[0].ids, (Ids{1, 2, 3}));
      EXPECT_EQ(all[1].ids, (Ids{4}));
    }
  }
}

TEST(CalibrationText, PadsOnTheTokenizersSide) {
  ModelFolder folder;
  folder.config["padding_side"] = "left";
  folder.write();
  const Tokenizer left = Tokenizer::load(folder.path);
  DataItem item;
  item.kind = DataItem::Kind::kDocument;
  item.reference_text = "a b";
  const auto text = left.encode("a b", true);
  const auto padded =
      calibration_sequences({item}, &left, {.max_tokens = text.size() + 2, .reference = true});
  Ids expected = {0, 0};
  expected.insert(expected.end(), text.begin(), text.end());
  EXPECT_EQ(padded[0].ids, expected);
}

TEST(CalibrationText, TextIsCutIntoWindows) {
  const Tokenizer tokenizer = Tokenizer::load(kDemoModel);
  DataItem text;
  text.kind = DataItem::Kind::kText;
  for (int i = 0; i < 300; ++i) text.answer += "This is sentence " + std::to_string(i) + ".\n";
  text.reference_text = text.answer;
  const Ids ids = tokenizer.encode(text.answer, true);
  const auto all = calibration_sequences({text}, &tokenizer, {.max_tokens = 100});
  ASSERT_EQ(all.size(), (ids.size() + 99) / 100);
  Ids joined;
  for (const TokenSequence& window : all) {
    EXPECT_EQ(window.prompt_tokens, 0u);
    joined.insert(joined.end(), window.ids.begin(), window.ids.end());
  }
  EXPECT_EQ(joined, ids);
  const auto some = calibration_sequences({text}, &tokenizer, {.samples = 4, .max_tokens = 100});
  ASSERT_EQ(some.size(), 4u);
  EXPECT_EQ(some, calibration_sequences({text}, &tokenizer, {.samples = 4, .max_tokens = 100}));
  for (const TokenSequence& s : some) EXPECT_EQ(std::ranges::count(all, s), 1);
  const auto padded =
      calibration_sequences({text}, &tokenizer, {.max_tokens = 100, .reference = true});
  EXPECT_EQ(padded.back().ids.size(), 100u);
}

TEST(CalibrationText, NothingToFeedIsAnError) {
  const Tokenizer tokenizer = Tokenizer::load(kDemoModel);
  DataItem empty;
  empty.where = "data.jsonl:7";
  EXPECT_EQ(error_of([&] { calibration_sequences({empty}, &tokenizer, {}); }),
            "data.jsonl:7: the item has no tokens");
  EXPECT_TRUE(contains(error_of([&] { calibration_sequences({}, &tokenizer, {}); }), "no items"));
  empty.answer = "a";
  empty.reference_text = "a";
  EXPECT_TRUE(contains(error_of([&] { calibration_sequences({empty}, nullptr, {}); }),
                       "data.jsonl:7: a text needs a tokenizer"));
  ModelFolder folder;
  folder.config.erase("eos_token");
  folder.write();
  const Tokenizer no_eos = Tokenizer::load(folder.path);
  EXPECT_TRUE(
      contains(error_of([&] { calibration_sequences({empty}, &no_eos, {.reference = true}); }),
               "pads with EOS, but the model names no EOS"));
}

}  // namespace
}  // namespace lewis
