// Parts of tuning that need no model.
#include "app/tuning.h"

#include <gtest/gtest.h>

namespace lewis {
namespace {

TEST(Tune, NamesOfTestSets) {
  for (const char* name : {"math_test.jsonl", "test.jsonl", "gsm8k-Testing.jsonl", "a/b.test.txt"})
    EXPECT_TRUE(is_named_test(name)) << name;
  for (const char* name : {"math_train.jsonl", "latest.jsonl", "test/train.jsonl", "contest.txt"})
    EXPECT_FALSE(is_named_test(name)) << name;
}

}  // namespace
}  // namespace lewis
