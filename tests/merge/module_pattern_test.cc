#include "merge/sources/module_pattern.h"

#include <gtest/gtest.h>

#include <chrono>

#include "base/error.h"

namespace lewis {
namespace {

// What Python 3.11 says of re.match(rf"(.*\\.)?({key})$", module).
TEST(ModulePattern, MatchesAsPeft) {
  struct PatternCase {
    const char* key;
    const char* module;
    bool matches;
  };
  for (const auto& [key, module, matches] :
       std::initializer_list<PatternCase>{{R"(q)", "h.0.q", true},
                                          {R"(q)", "h.0.xq", false},
                                          {R"(q)", "q", true},
                                          {R"(1.q)", "h.1.q", true},
                                          {R"(1.q)", "h.11.q", false},
                                          {R"(1.q)", "h.1xq", true},
                                          {R"(1.q)", "h1q", false},
                                          {R"(0.q)", "h.0.q", true},
                                          {R"(h\.\d+\.k)", "h.11.k", true},
                                          {R"(h\.\d+\.k)", "h.x.k", false},
                                          {R"(^h.0.q)", "h.0.q", true},
                                          {R"(^h.0.q)", "a.h.0.q", false},
                                          {R"(h.0.(q|k))", "a.h.0.k", true},
                                          {R"((q|k))", "h.q", true},
                                          {R"(.*)", "anything.at.all", true},
                                          {R"([qk]_proj)", "layers.1.k_proj", true},
                                          {R"([^q]_proj)", "layers.1.q_proj", false},
                                          {R"(layers.(1|2)..*)", "model.layers.2.mlp.up", true},
                                          {R"(q{1,2})", "h.qq", true},
                                          {R"(q{1,2})", "h.qqq", false},
                                          {R"()", "h.", true},
                                          {R"()", "h", false},
                                          {R"(\w+_proj)", "a.b_c_proj", true},
                                          {R"(q$)", "h.q", true},
                                          {R"((?:q|k)+)", "x.qkq", true},
                                          {R"(é)", "h.é", true},
                                          {R"(a.b)", "x.a.b", true},
                                          {R"(a.b)", "aXb", true}}) {
    EXPECT_EQ(ModulePattern(key, "f").matches(module), matches) << key << " " << module;
  }
}

std::string repeated(std::string_view part, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += part;
  return text;
}

std::string refusal(const std::string& key) {
  try {
    ModulePattern(key, "f: rank_pattern");
  } catch (const Error& e) {
    return e.code() == ExitCode::kInput ? e.what() : std::string("wrong code: ") + e.what();
  }
  return "none";
}

// Patterns that hang or overflow the stack of a matcher that backtracks.
TEST(ModulePattern, EndsInTime) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string module = "model.layers.0." + repeated("a", 1000);
  for (const char* key : {"(.*)*z", "(a*)*b", "(a|a)*b", "(a|aa)+b", "((a+)+)+b", "(.*)*(.*)*z"})
    EXPECT_FALSE(ModulePattern(key, "f").matches(module)) << key;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(ModulePattern, RefusesWhatItCannotMatchAsPython) {
  for (const std::string& key :
       {repeated("(", 20'000) + "a" + repeated(")", 20'000), repeated("(a|", 20'000),
        repeated("[", 20'000), repeated("a", 9'000) + "*" + repeated("b", 9'000),
        std::string("((a{1,1000}){1,1000}){1,1000}"), std::string("(?<=a)b"), std::string("(?!a)b"),
        std::string("(a)\\1"), std::string("[a&&b]"), std::string("[a--b]"), std::string("[[a]"),
        std::string("a\\Z"), std::string("a\\"), std::string("(q"), std::string("*")}) {
    const std::string message = refusal(key);
    EXPECT_TRUE(message.starts_with("f: rank_pattern: '")) << message;
    EXPECT_LT(message.size(), 600u);
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace lewis
