#include "cli/terminal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "cli/table.h"

namespace lewis {
namespace {

TEST(Terminal, HumanUnits) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.0 kB");
  EXPECT_EQ(human_bytes(9949), "9.9 kB");
  EXPECT_EQ(human_bytes(999'499), "999 kB");
  EXPECT_EQ(human_bytes(999'500), "1.0 MB");
  EXPECT_EQ(human_bytes(5'000'000'000), "5.0 GB");
  EXPECT_EQ(human_seconds(0.04), "0.0 s");
  EXPECT_EQ(human_seconds(59.96), "1m 00s");
  EXPECT_EQ(human_seconds(3725), "1h 02m");
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
}

TEST(Terminal, WidthCountsCharactersNotBytesOrColours) {
  EXPECT_EQ(display_width("abc"), 3u);
  EXPECT_EQ(display_width("± é ─"), 5u);
  EXPECT_EQ(display_width("\x1b[1;31mred\x1b[0m"), 3u);
}

TEST(Terminal, WidthOfWideAndCombiningCharacters) {
  EXPECT_EQ(display_width("模型"), 4u);
  EXPECT_EQ(display_width("e\u0301"), 1u);
  EXPECT_EQ(display_width("🙂"), 2u);
  EXPECT_EQ(display_width("\xff\xfe"), 2u) << "broken bytes take a column each";
  EXPECT_EQ(display_width("a\x1b[3"), 1u) << "an SGR sequence without its end";
}

TEST(Terminal, ElidedTextKeepsItsEnd) {
  EXPECT_EQ(elide("short", 5).string(), "short");
  EXPECT_EQ(elide("models/math", 6).string(), "…/math");
  EXPECT_EQ(elide("模型模型", 5).string(), "…模型");
  EXPECT_EQ(elide("模型", 2).string(), "…");
  EXPECT_EQ(elide("x", 0).string(), "");
}

TEST(Terminal, AsciiWhereNothingElseIsShown) {
  Terminal dumb;
  dumb.unicode = false;
  EXPECT_EQ(for_terminal(TerminalText::ready("1 ± 2 ✓ ✗ ─━…é\n"), dumb).string(),
            "1 +- 2 + x -=~?\n");
  EXPECT_EQ(for_terminal("1 ± 2", Terminal()).string(), "1 ± 2");
}

TEST(Terminal, NamesCannotMoveTheCursor) {
  const std::string name = "a\x1b[2Jb\n\x7f\u202e", shown = "a\\u{1b}[2Jb\\n\\u{7f}\\u{202e}";
  EXPECT_EQ(TerminalText(name).string(), shown);
  EXPECT_EQ(terminal_text("{}: {} {}\n", name, 1, std::filesystem::path(name)).string(),
            shown + ": 1 " + shown + "\n");
  EXPECT_EQ(terminal_text("{}", styled(name, "1", true)).string(), "\x1b[1m" + shown + "\x1b[0m");
  EXPECT_EQ(elide(name, 99).string(), shown);
  Table table({{name, Align::kLeft}, {"x"}});
  table.add({name, name.c_str()});
  EXPECT_EQ(table.text(Terminal()).string().find(name), std::string::npos);
  EXPECT_EQ(std::ranges::count(table.text(Terminal()).string(), '\n'), 2);
}

TEST(Table, FitsANarrowTerminal) {
  Table table({{"tensor", Align::kLeft}, {"one"}, {"two"}, {"three"}});
  table.add({"model.layers.10.self_attn.q_proj.weight", "1.5", "2.5", "3.5"});
  table.add_line();
  table.add({"模型", "1", "2", "3"});
  Terminal terminal;
  terminal.width = 36;
  EXPECT_NE(table.text(terminal).string().find("model.layers.10.self_attn.q_proj.weight"),
            std::string::npos)
      << "a pipe gets all";
  terminal.tty = true;
  EXPECT_EQ(table.text(terminal).string(),
            "tensor               one  two  three\n"
            "…attn.q_proj.weight  1.5  2.5    3.5\n"
            "────────────────────────────────────\n"
            "模型                   1    2      3\n");
  terminal.width = 26;  // not even so: the columns follow below one another
  EXPECT_EQ(table.text(terminal).string(),
            "tensor            one  two\n"
            "…n.q_proj.weight  1.5  2.5\n"
            "──────────────────────────\n"
            "模型                1    2\n"
            "\n"
            "tensor            three\n"
            "…n.q_proj.weight    3.5\n"
            "───────────────────────\n"
            "模型                  3\n");
}

TEST(Table, ColumnsLineUpInAscii) {
  Table table({{"", Align::kLeft}, {"score", Align::kLeft}, {"p"}});
  table.add({"a", "1 ± 2", "3"});
  table.add_line();
  table.add({"b", "1", "4"});
  Terminal dumb;
  dumb.unicode = false;
  EXPECT_EQ(table.text(dumb).string(),
            "   score   p\n"
            "a  1 +- 2  3\n"
            "------------\n"
            "b  1       4\n");
}

TEST(Table, ColumnsLineUpWithAndWithoutColour) {
  Table table({{"model", Align::kLeft}, {"score"}});
  table.add({"a", "1.0 ± 0.1"});
  table.add({"longer", styled("2", "32", true)});
  const std::string text = table.text(Terminal()).string();
  EXPECT_EQ(text,
            "model       score\n"
            "a       1.0 ± 0.1\n"
            "longer          \x1b[32m2\x1b[0m\n");
}

TEST(Table, NoColourMeansNoEscapes) {
  EXPECT_EQ(heat_cell(" 0.5 ", 0.5, false).string(), " 0.5 ");
  EXPECT_EQ(styled("x", "1", false).string(), "x");
  EXPECT_NE(heat_cell(" 0.5 ", 0.5, true).string().find("\x1b[48;5;"), std::string::npos);
}

}  // namespace
}  // namespace lewis
