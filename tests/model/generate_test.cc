// Sampling against the distribution that it claims, and generation against itself in other company.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "golden_file.h"
#include "model/sample.h"
#include "random_model.h"
#include "test_model.h"

namespace lewis {
namespace {

// The definition, in the plainest way: probabilities, sorted, cut where they reach top_p.
std::vector<double> plain_distribution(const std::vector<float>& logits, double temperature,
                                       double top_p) {
  std::vector<std::pair<double, size_t>> order;  // (-probability, id)
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) / temperature);
  for (size_t i = 0; i < logits.size(); ++i)
    order.emplace_back(-std::exp(static_cast<double>(logits[i]) / temperature) / sum, i);
  std::sort(order.begin(), order.end());
  std::vector<double> result(logits.size());
  double mass = 0;
  for (const auto& [negative, id] : order) {
    if (mass >= top_p) break;
    result[id] = -negative;
    mass -= negative;
  }
  for (double& p : result) p /= mass;
  return result;
}

TEST(Sample, FrequenciesAreThoseOfTheDefinition) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> logits(40);
  for (float& l : logits) l = 2 * normal(random);
  for (const double temperature : {0.5, 1.0, 1.7}) {
    for (const double top_p : {1.0, 0.9, 0.5, 0.01}) {
      const auto expected = plain_distribution(logits, temperature, top_p);
      constexpr int kDraws = 40'000;
      std::vector<int> found(logits.size());
      for (uint64_t n = 0; n < kDraws; ++n)
        ++found[sample_token(logits, temperature, top_p, sampling_number(3, n % 7, n / 7))];
      double rare = 0;  // tokens too rare for a normal approximation, taken together
      int rare_found = 0;
      const auto expect_share = [&](int count, double share) {
        EXPECT_NEAR(count / double{kDraws}, share, 4 * std::sqrt(share * (1 - share) / kDraws))
            << temperature << " " << top_p;
      };
      for (size_t i = 0; i < logits.size(); ++i) {
        if (expected[i] == 0) {
          EXPECT_EQ(found[i], 0) << i << " " << temperature << " " << top_p;
        } else if (expected[i] * kDraws >= 20) {
          expect_share(found[i], expected[i]);
        } else {
          rare += expected[i];
          rare_found += found[i];
        }
      }
      expect_share(rare_found, rare);
    }
  }
}

TEST(Sample, BordersOfTheUniformNumberAndTies) {
  const std::vector<float> logits = {1, 3, 3, -200, 2};
  EXPECT_EQ(most_likely_token(logits), 1);
  EXPECT_EQ(sample_token(logits, 1, 1, 0), 0);
  EXPECT_EQ(sample_token(logits, 1, 1, 0x1.fffffffffffffp-1), 4);
  EXPECT_EQ(sample_token(logits, 1, 1e-9, 0.99), 1);  // of equals the lowest id
  EXPECT_EQ(sample_token(logits, 1, 0.6, 0.99), 2);
  const std::vector<float> one = {-5};
  EXPECT_EQ(sample_token(one, 1, 0.5, 0.5), 0);
}

TEST(Sample, NumbersAreUniformAndDifferByEachKey) {
  double sum = 0, squares = 0;
  std::set<double> seen;
  for (const uint64_t seed : {0u, 1u, 2u}) {
    for (uint64_t prompt = 0; prompt < 40; ++prompt) {
      for (uint64_t position = 0; position < 40; ++position) {
        const double u = sampling_number(seed, prompt, position);
        EXPECT_TRUE(u >= 0 && u < 1);
        seen.insert(u);
        sum += u;
        squares += u * u;
      }
    }
  }
  EXPECT_EQ(seen.size(), 4800u);
  EXPECT_NEAR(sum / 4800, 0.5, 4 * std::sqrt(1.0 / 12 / 4800));
  EXPECT_NEAR(squares / 4800, 1.0 / 3, 4 * std::sqrt(4.0 / 45 / 4800));
}

std::vector<std::vector<int32_t>> some_prompts(size_t count, uint32_t seed = 2) {
  std::mt19937 random(seed);
  std::vector<std::vector<int32_t>> prompts(count);
  for (auto& p : prompts) {
    p.resize(random() % 20 + 1);
    for (int32_t& id : p) id = static_cast<int32_t>(random() % 50);
  }
  return prompts;
}

// Bit for bit: the logits of a prompt's tokens decide here whether the same ids are drawn.
TEST(Generate, APromptDoesNotFeelTheBatchNorTheThreads) {
  std::vector<std::filesystem::path> folders = golden_families();
  const RandomModel random;
  folders.push_back(random.dir.path);
  for (const auto& folder : folders) {
    const auto prompts = some_prompts(9);
    std::vector<std::vector<int32_t>> expected;
    for (const size_t threads : {1, 2, 7}) {
      const TestModel model(folder, threads);
      for (const int64_t batch : {1, 2, 5, 9}) {
        const auto found = generate(
            model.transformer, prompts,
            {.max_new_tokens = 12, .temperature = 1.0, .top_p = 0.95, .seed = 7, .batch = batch});
        if (expected.empty()) expected = found;
        EXPECT_EQ(found, expected) << folder << " " << batch << " " << threads;
      }
    }
  }
}

TEST(Generate, TheLogitsOfAPromptAreTheSameBitsInAnyBatch) {
  for (const auto& folder : golden_families()) {
    const TestModel model(folder);
    const auto prompts = some_prompts(9);
    const auto block = model.transformer.load_stored_block(0);
    const auto run = [&](std::span<const std::vector<int32_t>> some) {
      const TokenBatch batch = make_batch(some);
      std::vector<float> hidden(batch.ids.size() *
                                static_cast<size_t>(model.transformer.spec().hidden));
      model.transformer.embed(batch.ids, hidden);
      model.transformer.run_block(*block, batch.sequences, hidden);
      return hidden;
    };
    const auto all = run(prompts);
    size_t at = 0;
    for (const auto& prompt : prompts) {
      const auto alone = run(std::span(&prompt, 1));
      EXPECT_TRUE(
          std::equal(alone.begin(), alone.end(), all.begin() + static_cast<std::ptrdiff_t>(at)))
          << folder;
      at += alone.size();
    }
  }
}

TEST(Generate, SeedsAndTemperatures) {
  const RandomModel random;
  const TestModel model(random.dir.path);
  const auto prompts = some_prompts(6);
  const auto run = [&](double temperature, double top_p, uint64_t seed) {
    return generate(
        model.transformer, prompts,
        {.max_new_tokens = 20, .temperature = temperature, .top_p = top_p, .seed = seed});
  };
  const auto greedy = run(0, 1, 0);
  EXPECT_EQ(run(0, 0.5, 9), greedy);
  EXPECT_EQ(run(1e-6, 1, 9), greedy);
  EXPECT_EQ(run(1e-320, 1, 9), greedy);
  EXPECT_EQ(run(1, 1e-12, 9), greedy);
  const auto sampled = run(1.5, 1, 9);
  EXPECT_NE(sampled, greedy);
  EXPECT_EQ(run(1.5, 1, 9), sampled);
  EXPECT_NE(run(1.5, 1, 10), sampled);
  // The same prompt twice: two answers.
  const std::vector<std::vector<int32_t>> twice(2, prompts[0]);
  const auto answers =
      generate(model.transformer, twice, {.max_new_tokens = 20, .temperature = 1.5});
  EXPECT_NE(answers[0], answers[1]);
}

TEST(Generate, RefusesSettingsWithoutMeaning) {
  const RandomModel random;
  const TestModel model(random.dir.path);
  const auto prompts = some_prompts(1);
  for (const auto& [temperature, top_p] : {std::pair{-1.0, 1.0},
                                           {NAN, 1.0},
                                           {INFINITY, 1.0},
                                           {1.0, 0.0},
                                           {1.0, 1.1},
                                           {1.0, -0.5},
                                           {1.0, NAN}}) {
    EXPECT_THROW(generate(model.transformer, prompts, {.temperature = temperature, .top_p = top_p}),
                 Error);
  }
}

}  // namespace
}  // namespace lewis
