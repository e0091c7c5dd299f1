#include "text/regex.h"

#include <gtest/gtest.h>

#include <chrono>

#include "model_folder.h"

namespace lewis {
namespace {

std::string repeated(std::string_view part, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += part;
  return text;
}

// Patterns that take exponential time or overflow the stack of those who backtrack.
TEST(Regex, TakesLinearTime) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string text = repeated("a", 1 << 20);
  for (const char* pattern :
       {"(a*)*b", "(a|a)*b", "(a|aa)+$b", "(.*)*z", "^(a+)+$b", "(a?){50}a{50}b"})
    EXPECT_FALSE(Regex(pattern).found_in(text)) << pattern;
  EXPECT_TRUE(Regex("(a|b|ab)*$").found_in(text));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
}

TEST(Regex, RefusesWhatIsTooMuch) {
  const auto refusal = [](const std::string& pattern) {
    return error_of([&] { Regex regex(pattern); }, ExitCode::kUsage);
  };
  EXPECT_TRUE(contains(refusal(repeated("(", 4000) + "a" + repeated(")", 4000)), "nest"));
  EXPECT_TRUE(contains(refusal(repeated("a", 20'000)), "too long"));
  EXPECT_TRUE(contains(refusal("((\\w{1,99}){1,99}){1,99}"), "size limit"));
  EXPECT_TRUE(contains(refusal("(?<=a)b"), "look-around"));
  EXPECT_TRUE(contains(refusal("(a)\\1"), "backreferences"));
  EXPECT_LT(refusal(repeated("a", 20'000)).size(), 500u);
  const std::string text = repeated("A", 1 << 20);
  EXPECT_TRUE(contains(error_of([&] { Regex(".*[^A-Z]|[A-Z]").find_all(text); }), "take too long"));
}

}  // namespace
}  // namespace lewis
