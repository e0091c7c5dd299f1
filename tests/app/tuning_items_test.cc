#include "app/tuning_items.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "base/error.h"
#include "text/numpy_random.h"

namespace lewis {
namespace {

// The items that merges are made from, by content: a plain version.
std::map<std::string, std::set<size_t>> made_from(const std::vector<ItemSource>& sources) {
  std::map<std::string, std::set<size_t>> items;
  for (const ItemSource& s : sources) {
    const auto order = numpy_permutation(s.seed, static_cast<uint32_t>(s.count));
    for (size_t i = 0; i < s.used; ++i) items[s.content_hash].insert(order[i]);
  }
  return items;
}

// What a search is judged on is never fitted on: whatever the entries use, however many samples are
// asked for, and whether the entries share their data.
TEST(TuningItems, NothingThatIsJudgedOnIsFittedOn) {
  constexpr size_t kCount = 60;
  size_t split = 0, refused = 0;
  for (const size_t used_a : {0, 5, 15, 40, 54, 60})
    for (const size_t used_b : {0, 15, 32, 60})
      for (const size_t used_stage : {0, 30})
        for (const size_t samples : {0, 20, 50, 100})
          for (const double share : {0.1, 0.25, 0.5})
            for (const bool shared : {false, true}) {
              const std::vector<ItemSource> sources = {
                  {"a", "hash a", "gsm8k", kCount, 42, used_a},
                  {"b", shared ? "hash a" : "hash b", "gsm8k", kCount, 7, used_b},
                  {"stage", "hash a", "gsm8k", kCount, 3, used_stage}};
              std::vector<ItemParts> parts;
              try {
                parts = split_items(sources, 2, samples, share, 1);
              } catch (const Error& e) {
                EXPECT_EQ(e.code(), ExitCode::kUsage);
                ++refused;
                continue;
              }
              ++split;
              auto fitted = made_from(sources);
              for (size_t e = 0; e < 2; ++e)
                fitted[sources[e].content_hash].insert(parts[e].fit.begin(), parts[e].fit.end());
              for (size_t e = 0; e < 2; ++e) {
                ASSERT_FALSE(parts[e].fit.empty());
                ASSERT_FALSE(parts[e].held.empty());
                for (const size_t i : parts[e].held) {
                  ASSERT_FALSE(fitted[sources[e].content_hash].contains(i)) << "item " << i;
                }
              }
            }
  EXPECT_GT(split, 200u);
  EXPECT_GT(refused, 50u);
}

TEST(TuningItems, WithFreeItemsBothPartsAreTheFirstSamples) {
  const std::vector<ItemSource> sources = {{"a", "h", "gsm8k", 100, 42, 10}};
  const auto parts = split_items(sources, 1, 40, 0.25, 1);
  std::set<size_t> all(parts[0].fit.begin(), parts[0].fit.end());
  all.insert(parts[0].held.begin(), parts[0].held.end());
  const auto order = numpy_permutation(42, 100);
  EXPECT_EQ(all, std::set<size_t>(order.begin(), order.begin() + 40));
  EXPECT_EQ(parts[0].held.size(), 10u);
}

TEST(TuningItems, OneTextInTwoFormatsIsRefused) {
  const std::vector<ItemSource> sources = {{"a", "h", "gsm8k", 100, 42, 10},
                                           {"b", "h", "jsonl", 100, 42, 10}};
  EXPECT_THROW(split_items(sources, 2, 0, 0.25, 1), Error);
}

}  // namespace
}  // namespace lewis
