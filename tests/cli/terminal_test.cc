#include "cli/terminal.h"

#include <gtest/gtest.h>

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

TEST(Table, ColumnsLineUpWithAndWithoutColour) {
  Table table({{"model", Align::kLeft}, {"score"}});
  table.add({"a", "1.0 ± 0.1"});
  table.add({"longer", styled("2", "32", true)});
  const std::string text = table.text(Terminal());
  EXPECT_EQ(text,
            "model       score\n"
            "a       1.0 ± 0.1\n"
            "longer          \x1b[32m2\x1b[0m\n");
}

TEST(Table, NoColourMeansNoEscapes) {
  EXPECT_EQ(heat_cell(" 0.5 ", 0.5, false), " 0.5 ");
  EXPECT_EQ(styled("x", "1", false), "x");
  EXPECT_NE(heat_cell(" 0.5 ", 0.5, true).find("\x1b[48;5;"), std::string::npos);
}

}  // namespace
}  // namespace lewis
