// Merges of models whose tokenizers differ, beside mergekit's.
#include "app/tokenizers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "golden_file.h"
#include "io/checkpoint.h"
#include "merge/engine.h"
#include "temp_dir.h"
#include "text/tokenizer.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(LEWIS_TEST_DATA) / "golden" / "tokenizers";

// mergekit's ids of a union's new tokens are in no order, so rows are compared token by token.
class GoldenVocabulary : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Tokenizers, GoldenVocabulary,
                         testing::Values("union", "base", "model", "union_padded", "base_padded",
                                         "tasks", "tokens", "forced", "zero"),
                         [](const auto& test) { return test.param; });

TEST_P(GoldenVocabulary, RowsEqualMergekits) {
  const TempDir dir;
  Threads threads(2);
  const fs::path file = kGolden / (GetParam() + ".yml");
  const Recipe recipe = parse_recipe(file_text(kGolden / "recipes" / (GetParam() + ".yml")), file);
  merge(recipe, {.out = dir.path / "out", .tokenizers = change_tokenizer}, threads);
  const Checkpoint ours = Checkpoint::open(dir.path / "out");
  const SafetensorsFile theirs(kGolden / "merged" / GetParam() / "model.safetensors");
  const Json vocabulary = read_json(kGolden / "merged" / GetParam() / "vocab.json");
  const Tokenizer tokenizer = Tokenizer::load(dir.path / "out");
  EXPECT_EQ(tokenizer.vocab_size(), vocabulary.size());
  double largest = 0;
  ASSERT_EQ(theirs.entries().size(), 2u);  // embeddings and head
  for (const auto& entry : theirs.entries()) {
    const TensorInfo& info = ours.get(entry.info.name);
    ASSERT_EQ(info, entry.info);
    EXPECT_EQ(ours.config()["vocab_size"], info.shape[0]);
    const auto expected = read_tensor<float>(theirs, info.name);
    const std::vector<float> found = ours.read_floats(info);
    const auto compare = [&](size_t our_row, size_t their_row) {
      for (size_t i = 0; i < 8; ++i) {
        const double difference = std::abs(static_cast<double>(found[8 * our_row + i]) -
                                           static_cast<double>(expected[8 * their_row + i]));
        largest = std::max(largest, difference);
      }
    };
    for (const auto& [token, id] : vocabulary.items()) {
      const auto our_id = tokenizer.token_to_id(token);
      ASSERT_TRUE(our_id) << token;
      compare(static_cast<size_t>(*our_id), id.get<size_t>());
    }
    for (size_t row = vocabulary.size(); row < static_cast<size_t>(info.shape[0]); ++row)
      compare(row, row);  // padding
  }
  EXPECT_LE(largest, 1e-6);
  std::printf("%s: largest difference %.2g\n", GetParam().c_str(), largest);
}

}  // namespace
}  // namespace lewis
