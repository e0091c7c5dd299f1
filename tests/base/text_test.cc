// JSON, UTF-8, lines, hashes, the nearest name.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/suggest.h"
#include "base/text_file.h"

namespace lewis {
namespace {

TEST(Json, RefusesWhatIsNotStrict) {
  const auto refused = [](std::string_view text) {
    try {
      parse_json(text, "x.json");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput);
      EXPECT_TRUE(std::string(e.what()).starts_with("x.json")) << e.what();
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
      return true;
    }
    return false;
  };
  EXPECT_TRUE(refused(""));
  EXPECT_TRUE(refused("{\"a\": 1, \"a\": 2}"));
  EXPECT_TRUE(refused("{\"o\": {\"a\": 1, \"b\": {}, \"a\": 2}}"));
  EXPECT_TRUE(refused("{\"a\": 1} x"));
  EXPECT_TRUE(refused("{\"a\": 01}"));
  EXPECT_TRUE(refused("[1, 2,]"));
  EXPECT_TRUE(refused("\"\xff\""));
  EXPECT_TRUE(refused("\"\xed\xa0\x80\""));  // a surrogate
  EXPECT_TRUE(refused(std::string(65, '[') + std::string(65, ']')));
  EXPECT_TRUE(refused(std::string(1000000, '[')));
  EXPECT_FALSE(refused(std::string(60, '[') + std::string(60, ']')));
  EXPECT_FALSE(refused("{\"a\": {\"b\": 1}, \"c\": {\"b\": 1}}"));
}

TEST(Utf8, WellFormed) {
  EXPECT_TRUE(is_utf8("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"));
  for (const char* bad : {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80"}) {
    EXPECT_FALSE(is_utf8(bad));
  }
}

TEST(Lines, EndsOfAllKinds) {
  EXPECT_EQ(split_lines("a\nb\n").size(), 2u);
  EXPECT_EQ(split_lines("a\nb").size(), 2u);
  EXPECT_EQ(split_lines("a\r\nb\r\n"), (std::vector<std::string_view>{"a", "b"}));
  EXPECT_EQ(split_lines("").size(), 0u);
}

TEST(Hash, PublishedSha256) {  // FIPS 180-4, appendix
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Suggest, NearestName) {
  const std::vector<std::string_view> names = {"weight", "density", "gamma"};
  EXPECT_EQ(nearest_name("wieght", names), "weight");
  EXPECT_EQ(nearest_name("densty", names), "density");
  EXPECT_EQ(nearest_name("gama", names), "gamma");
}

}  // namespace
}  // namespace lewis
