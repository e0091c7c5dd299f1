// The one rule for scalars: what YAML 1.1 and 1.2 read differently is refused, with the line and
// how to write it.
#include "yaml/reader.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "yaml/scalars.h"

namespace lewis {
namespace {

enum class Fruit { kApple, kPear };

}  // namespace

template <>
inline constexpr auto kEnumNames<Fruit> = std::to_array<EnumName<Fruit>>({{Fruit::kApple, "apple"},
                                                                          {Fruit::kPear, "pear"}});

namespace {

// The value of `a:` on the second line of a text.
YamlNode value(const std::string& text) {
  return *parse_yaml("# a comment\na: " + text + "\n", "f.yml")[0].find("a");
}

template <typename F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    return e.what();
  }
  return "accepted";
}

const YamlReader kReader("f.yml");

// Plain scalars that YAML 1.1 and 1.2 take for different things.
constexpr const char* kAmbiguous[] = {
    "yes", "Yes",   "NO",     "on",    "Off",      "y",          "N",         "010",
    "-07", "08",    "0o10",   "0b101", "1_000",    "1_0.5",      "0x1_0",     "1:30",
    "1e4", "1.5e4", "12e456", "1e-5",  "1:30:0.5", "2024-01-31", "2024-1-31", "2024-01-31T10:00"};

TEST(YamlScalars, TheTwoVersionsDisagree) {
  for (const char* text : kAmbiguous) {
    EXPECT_NE(yaml_disagreement(text), "") << text;
    const std::string message = error_of([&] { kReader.text(value(text), "name"); });
    EXPECT_TRUE(message.starts_with("f.yml:2: 'name' must be a text: '")) << message;
    EXPECT_NE(message.find(std::string("write it in quotes: \"") + text + "\""), std::string::npos)
        << message;
  }
}

TEST(YamlScalars, QuotedOnesAreTexts) {
  for (const char* text : kAmbiguous) {
    EXPECT_EQ(kReader.text(value(std::string("\"") + text + "\""), "name"), text);
    EXPECT_EQ(kReader.text(value(std::string("'") + text + "'"), "name"), text);
  }
}

TEST(YamlScalars, TheTwoVersionsAgree) {
  for (const char* text : {"true",   "False",
                           "null",   "~",
                           "0",      "10",
                           "-3",     "0.5",
                           ".5",     "5.",
                           "1.5e+4", "1.0e-05",
                           "0x10",   "yEs",
                           "nope",   "model-7b",
                           "a:b",    "2024-model",
                           "v1_0",   "_1",
                           "e4",     "0.10",
                           "010.5",  "-",
                           "+",      "org/model@main",
                           "12:ab"}) {
    EXPECT_EQ(yaml_disagreement(text), "") << text;
  }
}

TEST(YamlReader, Numbers) {
  for (const auto& [text, expected] :
       std::initializer_list<std::pair<const char*, double>>{{"1", 1},
                                                             {"0.5", 0.5},
                                                             {".5", 0.5},
                                                             {"+2", 2},
                                                             {"-.25", -0.25},
                                                             {"1e-3", 1e-3},
                                                             {"'1e-3'", 1e-3},
                                                             {"\"0.25\"", 0.25},
                                                             {"1.0e-05", 1e-5},
                                                             {"5.", 5}}) {
    EXPECT_EQ(kReader.number(value(text), "x"), expected) << text;
  }
  EXPECT_EQ(error_of([] { kReader.number(value("010"), "x"); }),
            "f.yml:2: x must be a number: '010' is octal or a text in YAML 1.1 and decimal in YAML "
            "1.2; write it in decimal, without leading zeros or underscores");
  for (const char* text : {"1_000", "1:30", "0o10", "0b1", "yes", "true", "high", ".nan", ".inf",
                           "inf", "1e999", "0x10", "[1]", "~", "''"}) {
    const std::string message = error_of([&] { kReader.number(value(text), "x"); });
    EXPECT_TRUE(message.starts_with("f.yml:2: x must be a number")) << text << ": " << message;
  }
}

TEST(YamlReader, Flags) {
  for (const char* text : {"true", "True", "TRUE", "1"})
    EXPECT_TRUE(kReader.flag(value(text), "x")) << text;
  for (const char* text : {"false", "False", "FALSE", "0"})
    EXPECT_FALSE(kReader.flag(value(text), "x")) << text;
  EXPECT_EQ(error_of([] { kReader.flag(value("Yes"), "x"); }),
            "f.yml:2: x must be true or false, found 'Yes', which is a boolean in YAML 1.1 and a "
            "text in YAML 1.2");
  for (const char* text : {"no", "on", "off", "y", "2", "'true'", "maybe", "[true]", "~"})
    EXPECT_NE(error_of([&] { kReader.flag(value(text), "x"); }), "accepted") << text;
}

TEST(YamlReader, CountsAndShares) {
  EXPECT_EQ(kReader.count(value("12"), "x"), 12u);
  EXPECT_EQ(kReader.count(value("1e3"), "x"), 1000u);
  EXPECT_EQ(error_of([] { kReader.count(value("0"), "x", 1); }),
            "f.yml:2: x must be a whole number from 1, found '0'");
  for (const char* text : {"-1", "1.5", "1e16", "012"})
    EXPECT_NE(error_of([&] { kReader.count(value(text), "x"); }), "accepted") << text;
  EXPECT_EQ(kReader.share(value("1"), "x"), 1);
  EXPECT_EQ(error_of([] { kReader.share(value("1.5"), "x"); }), "f.yml:2: x 1.5 is outside [0, 1]");
}

TEST(YamlReader, Choices) {
  EXPECT_EQ(kReader.choice<Fruit>(value("pear"), "fruit"), Fruit::kPear);
  EXPECT_EQ(error_of([] { kReader.choice<Fruit>(value("aple"), "fruit"); }),
            "f.yml:2: fruit 'aple' is not known; did you mean 'apple'? (known: apple, pear)");
}

TEST(YamlReader, Keys) {
  const YamlNode map = parse_yaml("one: 1\ntwoo: 2\nnothing:\n", "f.yml")[0];
  EXPECT_EQ(error_of([&] {
              kReader.check_keys(map, {"one", "two"}, "the map");
            }),
            "f.yml:2: unknown key 'twoo' in the map; did you mean 'two'?");
  EXPECT_EQ(error_of([&] { kReader.need(map, "three"); }), "f.yml:1: 'three' is missing");
  EXPECT_EQ(YamlReader::given(map, "nothing"), nullptr);
  EXPECT_NE(YamlReader::given(map, "one"), nullptr);
}

}  // namespace
}  // namespace lewis
