#include "base/printable.h"

#include <gtest/gtest.h>

#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "programs.h"

namespace lewis {
namespace {

TEST(Printable, OrdinaryTextStays) {
  for (const char* text :
       {"", "model.layers.0 é 模型 🙂❤\ufe0f", "a\\nb", "\u05d0\u05d1 العربية"})
    EXPECT_EQ(printable(text), text);
}

TEST(Printable, ControlsAreEscaped) {
  EXPECT_EQ(printable("a\x1b]0;PWN\x07"), "a\\u{1b}]0;PWN\\u{7}");
  EXPECT_EQ(printable("a\nb\rc\td"), "a\\nb\\rc\\td");
  EXPECT_EQ(printable(std::string_view("\0\x7f", 2)), "\\u{0}\\u{7f}");
  EXPECT_EQ(printable("\u009b31m"), "\\u{9b}31m") << "a C1 control that begins a sequence";
}

TEST(Printable, CharactersThatDeceiveAreShown) {
  for (const uint32_t code :
       {0x202au,  0x202eu,  0x2066u,  0x2069u,  0x200eu,  0x200fu,   0x61cu,  0x2028u, 0x2029u,
        0x200bu,  0x200du,  0x2060u,  0xfeffu,  0xadu,    0xfffeu,   0xffffu, 0xfff9u, 0x3164u,
        0xe0001u, 0xe0041u, 0xe007fu, 0xe0100u, 0x1fffeu, 0x10ffffu, 0x180eu, 0x1d173u}) {
    EXPECT_FALSE(is_shown(code)) << std::hex << code;
  }
  EXPECT_EQ(printable("gpj.\u202egnp"), "gpj.\\u{202e}gnp");
  EXPECT_EQ(printable("a\U000e0041"), "a\\u{e0041}");
}

// A lead byte must not swallow what follows it; overlong forms, surrogates and code points that do
// not exist are bytes that are not UTF-8.
TEST(Printable, DecodingIsStrict) {
  EXPECT_EQ(printable("\xdd\x1b]0"), "\\xdd\\u{1b}]0");
  EXPECT_EQ(printable("\xe2\x82\x1b"), "\\xe2\\x82\\u{1b}");
  EXPECT_EQ(printable("\xf0\x9f\x98"), "\\xf0\\x9f\\x98");
  EXPECT_EQ(printable("\xc0\x9b"), "\\xc0\\x9b");
  EXPECT_EQ(printable("\xe0\x80\x9b"), "\\xe0\\x80\\x9b");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(printable("\xff"), "\\xff");
  EXPECT_EQ(printable("\x9b"
                      "31m"),
            "\\x9b31m");
  EXPECT_EQ(printable("\xc3\xa9\xc3"), "é\\xc3");
}

// Every pair of bytes gives ASCII or well-formed characters that are shown.
TEST(Printable, NothingPassesInPairsOfBytes) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string text = printable(std::string{static_cast<char>(a), static_cast<char>(b)});
      for (size_t i = 0; i < text.size();) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const bool two = byte >= 0xc2 && byte <= 0xdf && i + 1 < text.size() &&
                         static_cast<unsigned char>(text[i + 1]) >= 0x80 &&
                         static_cast<unsigned char>(text[i + 1]) < 0xc0;
        ASSERT_TRUE((byte >= 0x20 && byte < 0x7f) ||
                    (two && !(byte == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0)))
            << a << " " << b;
        i += two ? 2 : 1;
      }
    }
  }
}

TEST(Printable, JsonKeepsItsValue) {
  const std::string text = "a\x1b\x7f\u202e\u009b\n\U000e0041é";
  const std::string shown = printable_json(Json{{text, text}}.dump(2));
  EXPECT_EQ(printable(shown).find("\\u{"), std::string::npos) << "nothing is left to escape";
  EXPECT_EQ(parse_json(shown, "test"), (Json{{text, text}}));
  EXPECT_NE(shown.find("é"), std::string::npos);
}

// Users of the library print messages as they are; a message may hold another one.
TEST(Printable, MessagesOfErrors) {
  const Error inner = input_error("{}: no tensor", "a\x1b[2J\nb\u202e\xff");
  EXPECT_STREQ(inner.what(), "a\\u{1b}[2J\\nb\\u{202e}\\xff: no tensor");
  EXPECT_STREQ(input_error("x: {}", inner.what()).what(),
               ("x: " + std::string(inner.what())).c_str());
}

// The sanitized programs are linked of rooms that are compiled twice: this shows that they have the
// right ones.
TEST(Sanitizers, SeeWhatARoomReads) {
  if (!sanitized()) GTEST_SKIP() << "a program without sanitizers";
  const auto text = std::make_unique<char[]>(16);
  EXPECT_DEATH(printable(std::string_view(text.get(), 17)), "heap-buffer-overflow.*printable");
}

}  // namespace
}  // namespace lewis
