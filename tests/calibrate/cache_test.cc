#include "calibrate/cache.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <set>

#include "base/error.h"
#include "base/text_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

StatisticsKey example_key() {
  StatisticsKey key;
  key.model = "demo/models/math";
  key.model_hash = "ab12";
  key.tokenizer_hash = "cd34";
  key.data = "demo/data/math_train.jsonl";
  key.data_hash = "ef56";
  key.format = "gsm8k";
  key.samples = 15;
  key.seed = 42;
  key.max_tokens = 512;
  return key;
}

// Counts how often the statistics are computed.
struct Computation {
  int count = 0;
  Statistics operator()() {
    ++count;
    Statistics s;
    s.sum_squares["model.layers.0.mlp.up_proj"] = {1, 2.5, 1e200};
    s.tokens = 7;
    s.sequences = 2;
    return s;
  }
};

TEST(Cache, ComputesOnceAndReadsAfterwards) {
  const TempDir dir;
  Computation compute;
  const auto first = cached_statistics(dir.path / "a" / "b", example_key(), std::ref(compute));
  const auto second = cached_statistics(dir.path / "a" / "b", example_key(), std::ref(compute));
  EXPECT_EQ(compute.count, 1);
  EXPECT_FALSE(first.reused);
  EXPECT_TRUE(second.reused);
  EXPECT_TRUE(is_cached(dir.path / "a" / "b", example_key()));
  EXPECT_EQ(first.file, second.file);
  EXPECT_EQ(second.statistics.sum_squares, first.statistics.sum_squares);
  EXPECT_EQ(second.statistics.tokens, 7u);
  EXPECT_EQ(second.statistics.sequences, 2u);
  EXPECT_EQ(second.statistics.origin, to_origin(example_key()));
}

TEST(Cache, EveryPartOfTheKeyCounts) {
  using Change = std::function<void(StatisticsKey&)>;
  const std::vector<Change> changes = {[](auto& k) { k.model_hash = "x"; },
                                       [](auto& k) { k.tokenizer_hash = "x"; },
                                       [](auto& k) { k.data_hash = "x"; },
                                       [](auto& k) { k.format = "mbpp"; },
                                       [](auto& k) { k.prompt_field = "x"; },
                                       [](auto& k) { k.answer_field = "x"; },
                                       [](auto& k) { k.samples = 16; },
                                       [](auto& k) { k.seed = 1; },
                                       [](auto& k) { k.sequences_hash = "x"; },
                                       [](auto& k) { k.max_tokens = 99; },
                                       [](auto& k) { k.protocol = Protocol::kReference; },
                                       [](auto& k) { k.skip_first = 1; },
                                       [](auto& k) { k.skip_first = 2; },
                                       [](auto& k) { k.compute = ComputeType::kBF16; }};
  std::set<std::filesystem::path> files = {cache_file("cache", example_key())};
  for (const Change& change : changes) {
    StatisticsKey key = example_key();
    change(key);
    EXPECT_TRUE(files.insert(cache_file("cache", key)).second);
  }
  EXPECT_EQ(files.size(), changes.size() + 1);
}

TEST(Cache, SequencesAreTheirTokensAndTheirBounds) {
  using Sequences = std::vector<std::vector<int32_t>>;
  const auto hash = [](const Sequences& s) { return hash_sequences(s); };
  EXPECT_EQ(hash({{1, 2}, {3}}), hash({{1, 2}, {3}}));
  std::set<std::string> hashes = {
      hash({}),           hash({{}}), hash({{1, 2, 3}}), hash({{1}, {2, 3}}), hash({{1, 2}, {3}}),
      hash({{3}, {1, 2}})};
  EXPECT_EQ(hashes.size(), 6u);
}

TEST(Cache, TheSameModelElsewhereIsTheSame) {
  StatisticsKey moved = example_key();
  moved.model = "/elsewhere";
  moved.data = "copy.jsonl";
  EXPECT_EQ(cache_file("cache", moved), cache_file("cache", example_key()));
}

TEST(Cache, ADamagedFileIsComputedAnew) {
  const TempDir dir;
  Computation compute;
  const auto first = cached_statistics(dir.path, example_key(), std::ref(compute));
  std::ofstream(first.file, std::ios::trunc) << "not statistics";
  EXPECT_FALSE(is_cached(dir.path, example_key()));
  EXPECT_FALSE(cached_statistics(dir.path, example_key(), std::ref(compute)).reused);
  EXPECT_TRUE(cached_statistics(dir.path, example_key(), std::ref(compute)).reused);
  EXPECT_EQ(compute.count, 2);
}

// Whichever bit of an entry flips, the entry is computed anew or holds what was written.
TEST(Cache, NoFlippedBitGivesOtherStatistics) {
  const TempDir dir;
  Statistics s;
  s.sum_squares["model.layers.0.mlp.up_proj"] = {1, 2.5, 1e200};
  s.experts["model.layers.1.mlp.experts"] = {{3, 4}, {1, 2}, {3, 4}};
  s.output_changes["model.layers.0.mlp.up_proj"] = {0.5, 2, 7};
  s.fused["qkv_proj"] = {{"q_proj", 64}, {"k_proj", 32}};
  s.tokens = 1024;
  s.sequences = 2;
  const auto written = cached_statistics(dir.path, example_key(), [&] { return s; });
  const std::string bytes = read_text_file(written.file);
  size_t tried = 0, refused = 0;
  for (size_t bit = 0; bit < 8 * bytes.size(); bit += 5, ++tried) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    std::ofstream(written.file, std::ios::trunc) << damaged;
    if (!is_cached(dir.path, example_key())) {
      ++refused;
      continue;
    }
    const Statistics found = read_statistics(written.file);
    EXPECT_EQ(found.sum_squares, s.sum_squares) << bit;
    EXPECT_EQ(found.experts, s.experts) << bit;
    EXPECT_EQ(found.output_changes, s.output_changes) << bit;
    EXPECT_EQ(found.fused, s.fused) << bit;
    EXPECT_EQ(found.tokens, s.tokens) << bit;
    EXPECT_EQ(found.sequences, s.sequences) << bit;
  }
  EXPECT_GT(refused, tried * 9 / 10);  // the rest lies in what only people read
}

TEST(Cache, AFileOfAnotherOriginIsComputedAnew) {
  const TempDir dir;
  Computation compute;
  StatisticsKey other = example_key();
  other.seed = 1;
  cached_statistics(dir.path, other, std::ref(compute));
  std::filesystem::rename(cache_file(dir.path, other), cache_file(dir.path, example_key()));
  EXPECT_FALSE(cached_statistics(dir.path, example_key(), std::ref(compute)).reused);
}

TEST(Cache, WithoutAFolderNothingIsKept) {
  Computation compute;
  EXPECT_FALSE(cached_statistics({}, example_key(), std::ref(compute)).reused);
  EXPECT_FALSE(cached_statistics({}, example_key(), std::ref(compute)).reused);
  EXPECT_EQ(compute.count, 2);
}

TEST(Cache, AFolderThatCannotBeMadeIsSaidBeforeTheWork) {
  const TempDir dir;
  std::ofstream(dir.path / "file") << "x";
  Computation compute;
  try {
    cached_statistics(dir.path / "file" / "cache", example_key(), std::ref(compute));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_NE(std::string(e.what()).find("file/cache"), std::string::npos);
  }
  EXPECT_EQ(compute.count, 0);
}

}  // namespace
}  // namespace lewis
