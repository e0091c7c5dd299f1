// Maps in the terminal line up, keep to its width, and say without colour what they say with it.
#include "cli/maps.h"

#include <gtest/gtest.h>

#include <regex>

#include "app/measures.h"
#include "base/text_file.h"
#include "some_diagnostics.h"

namespace lewis {
namespace {

Terminal of(int width, bool color) { return {.color = color, .width = width}; }

std::string without_colour(const std::string& text) {
  return std::regex_replace(text, std::regex("\x1b\\[[0-9;]*m"), "");
}

std::string without_blanks_at_ends(const std::string& text) {
  return std::regex_replace(text, std::regex(" +\n"), "\n");
}

TEST(TerminalMaps, KeepToTheWidthAndLoseNothing) {
  for (const std::string mlp : {"mlp", "mlp.experts.0"}) {
    for (const size_t models : {1, 2, 3}) {
      const auto measures = diagnostic_measures(some_diagnostics(models, 12, mlp), titles(models));
      for (const int width : {40, 80, 120, 200}) {
        const std::string text = terminal_maps(measures, of(width, false)).string();
        EXPECT_EQ(text.find('\x1b'), std::string::npos);
        for (const auto line : split_lines(text))
          EXPECT_LE(display_width(line), static_cast<size_t>(width)) << line;
        for (const HeatMaps& m : measures) {
          for (const std::string& p : m.projections)
            EXPECT_NE(text.find(p), std::string::npos) << p << " at " << width;
        }
      }
    }
  }
}

TEST(TerminalMaps, ColourChangesNoCharacter) {
  const auto measures = diagnostic_measures(some_diagnostics(2, 3), titles(2));
  for (const int width : {80, 200}) {
    const std::string plain = terminal_maps(measures, of(width, false)).string(),
                      coloured = terminal_maps(measures, of(width, true)).string();
    EXPECT_NE(coloured.find("\x1b[48;5;"), std::string::npos);
    EXPECT_EQ(without_blanks_at_ends(without_colour(coloured)), without_blanks_at_ends(plain));
  }
}

TEST(TerminalMaps, ModelsStandBesideEachOtherWhereThereIsRoom) {
  const auto measures = diagnostic_measures(some_diagnostics(2, 3), titles(2));
  const auto first_line = [](const std::string& text) { return text.substr(0, text.find('\n')); };
  EXPECT_EQ(first_line(terminal_maps(measures, of(80, false)).string()),
            "Size of the task vector, expert0");
  EXPECT_NE(first_line(terminal_maps(measures, of(200, false)).string()).find("expert1"),
            std::string::npos);
}

// Every number under the head of its column: right ends meet.
TEST(TerminalMaps, ColumnsLineUp) {
  const auto measures = diagnostic_measures(some_diagnostics(2, 12), titles(2));
  const std::string text = terminal_maps({measures[0]}, of(80, false)).string();
  const auto lines = split_lines(text);
  const size_t end = lines[1].find("q_proj") + 6;
  for (size_t i = 2; i < 14; ++i) EXPECT_EQ(lines[i][end - 1], ' ') << "cells end in a blank";
  for (size_t i = 2; i < 14; ++i) EXPECT_NE(lines[i][end - 2], ' ') << lines[i];
}

}  // namespace
}  // namespace lewis
