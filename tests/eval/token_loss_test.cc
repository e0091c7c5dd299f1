#include "eval/tasks/token_loss.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "golden_file.h"
#include "test_model.h"

namespace lewis {
namespace {

const std::filesystem::path kLlama = LEWIS_TEST_DATA "/golden/families/llama";

// From the logits of transformers.
double expected_loss(const std::vector<float>& logits, size_t row, size_t vocab, int32_t target) {
  double sum = 0;
  for (size_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(logits[row * vocab + v]));
  return std::log(sum) - logits[row * vocab + target];
}

TEST(TokenLoss, IsThatOfTransformersLogits) {
  const TestModel model(kLlama);
  const SafetensorsFile golden(kLlama / "golden.safetensors");
  const auto logits = read_tensor<float>(golden, "logits");
  const auto ids = golden_sequences(golden);
  const auto vocab = static_cast<size_t>(model.transformer.spec().vocab);
  const std::vector<ScoredSequence> sequences = {{ids[0], 1}, {ids[1], 40}};
  const auto losses = token_losses(model.transformer, sequences, {});
  ASSERT_EQ(losses.size(), 2u);
  ASSERT_EQ(losses[0].size(), 95u);
  ASSERT_EQ(losses[1].size(), 56u);
  double largest = 0;
  for (size_t s = 0; s < 2; ++s) {
    for (size_t i = 0; i < losses[s].size(); ++i) {
      const size_t t = sequences[s].first_scored + i;
      const double expected = expected_loss(logits, s * 96 + t - 1, vocab, ids[s][t]);
      largest = std::max(largest, std::abs(losses[s][i] - expected));
    }
  }
  EXPECT_LT(largest, 1e-4);
}

TEST(TokenLoss, DoesNotDependOnCompanyOrThreads) {
  const TestModel model(kLlama), single(kLlama, 1);
  const auto ids = golden_sequences(SafetensorsFile(kLlama / "golden.safetensors"));
  const std::vector<ScoredSequence> both = {{ids[0], 1}, {ids[1], 1}};
  const auto together = token_losses(model.transformer, both, {});
  EXPECT_EQ(token_losses(single.transformer, both, {}), together);
  for (size_t s = 0; s < 2; ++s) {
    const auto alone = token_losses(model.transformer, std::span(both).subspan(s, 1), {});
    for (size_t i = 0; i < alone[0].size(); ++i) EXPECT_NEAR(alone[0][i], together[s][i], 1e-5);
  }
}

TEST(TokenLoss, TellsItsProgressAndRefusesNonsense) {
  const TestModel model(kLlama);
  uint64_t done = 0, total = 0;
  const std::vector<ScoredSequence> some = {{{1, 2, 3}, 1}, {{4, 5}, 2}};
  const auto losses = token_losses(model.transformer, some, [&](const Progress& p) {
    done = p.done;
    total = p.total;
  });
  EXPECT_EQ(losses[1].size(), 0u);
  EXPECT_EQ(total, 5u * static_cast<uint64_t>(model.transformer.spec().layers));
  EXPECT_EQ(done, total);
  const auto score = [&](ScoredSequence s) { token_losses(model.transformer, {{s}}, {}); };
  EXPECT_THROW(score({{1, 2}, 0}), Error);
  EXPECT_THROW(score({{1, 2}, 3}), Error);
}

}  // namespace
}  // namespace lewis
