// Maps in the terminal line up, keep to its width, and say without colour what they say with it.
#include "cli/measures.h"

#include <gtest/gtest.h>

#include <regex>

#include "base/text_file.h"
#include "cli/table.h"

namespace lewis {
namespace {

MergeDiagnostics some_diagnostics(size_t models, int layers, const std::string& mlp = "mlp") {
  MergeDiagnostics d;
  d.trims = true;
  for (size_t m = 0; m < models; ++m) d.models.push_back("models/expert" + std::to_string(m));
  for (int l = 0; l < layers; ++l) {
    for (const std::string& name :
         {std::string("self_attn.q_proj"), std::string("self_attn.o_proj"), mlp + ".gate_proj",
          mlp + ".up_proj", mlp + ".down_proj"}) {
      TensorDiagnostics t;
      t.name = "model.layers." + std::to_string(l) + "." + name + ".weight";
      t.shape = {2, 2};
      for (size_t m = 0; m < models; ++m)
        t.models.push_back({4, 2, 1.0 + static_cast<double>(m) + l, 0.5, 0.7, 100});
      t.pairs.assign(models * (models - 1) / 2, {4, 1, 2, 1, 0.25});
      d.tensors.push_back(t);
    }
  }
  return d;
}

std::vector<std::string> titles(size_t models) {
  std::vector<std::string> t;
  for (size_t m = 0; m < models; ++m) t.push_back("expert" + std::to_string(m));
  return t;
}

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
        const std::string text = terminal_maps(measures, of(width, false));
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
    const std::string plain = terminal_maps(measures, of(width, false)),
                      coloured = terminal_maps(measures, of(width, true));
    EXPECT_NE(coloured.find("\x1b[48;5;"), std::string::npos);
    EXPECT_EQ(without_blanks_at_ends(without_colour(coloured)), without_blanks_at_ends(plain));
  }
}

TEST(TerminalMaps, ModelsStandBesideEachOtherWhereThereIsRoom) {
  const auto measures = diagnostic_measures(some_diagnostics(2, 3), titles(2));
  const auto first_line = [](const std::string& text) { return text.substr(0, text.find('\n')); };
  EXPECT_EQ(first_line(terminal_maps(measures, of(80, false))), "Size of the task vector, expert0");
  EXPECT_NE(first_line(terminal_maps(measures, of(200, false))).find("expert1"), std::string::npos);
}

// Every number under the head of its column: right ends meet.
TEST(TerminalMaps, ColumnsLineUp) {
  const auto measures = diagnostic_measures(some_diagnostics(2, 12), titles(2));
  const std::string text = terminal_maps({measures[0]}, of(80, false));
  const auto lines = split_lines(text);
  const size_t end = lines[1].find("q_proj") + 6;
  for (size_t i = 2; i < 14; ++i) EXPECT_EQ(lines[i][end - 1], ' ') << "cells end in a blank";
  for (size_t i = 2; i < 14; ++i) EXPECT_NE(lines[i][end - 2], ' ') << lines[i];
}

TEST(Measures, CellsAreSumsOverExpertsOfALayer) {
  MergeDiagnostics d = some_diagnostics(1, 1, "mlp.experts.0");
  TensorDiagnostics other = d.tensors.back();
  other.name = "model.layers.0.mlp.experts.1.down_proj.weight";
  other.models[0].squares = 15;
  other.models[0].base_squares = 300;
  d.tensors.push_back(other);
  const HeatMaps size = diagnostic_measures(d, titles(1))[0];
  const auto row = std::ranges::find(size.projections, "experts.down_proj");
  ASSERT_NE(row, size.projections.end());
  const auto at = static_cast<size_t>(row - size.projections.begin());
  EXPECT_DOUBLE_EQ(size.maps[0].cells[at][0].value(), std::sqrt(16.0 / 400.0));
}

// A language model and a vision tower have layers of the same names.
TEST(Measures, StacksOfLayersAreToldApart) {
  MergeDiagnostics d = some_diagnostics(1, 2);
  const size_t before = diagnostic_measures(d, titles(1))[0].projections.size();
  TensorDiagnostics tower = d.tensors[0];
  tower.name = "vision.layers.0.self_attn.q_proj.weight";
  d.tensors.push_back(tower);
  const auto projections = diagnostic_measures(d, titles(1))[0].projections;
  EXPECT_EQ(projections.size(), before + 1);
  EXPECT_NE(std::ranges::find(projections, "vision.q_proj"), projections.end());
}

TEST(Measures, ManyPairsBecomeOneMap) {
  EXPECT_EQ(diagnostic_measures(some_diagnostics(3, 2), titles(3)).back().maps.size(), 3u);
  const HeatMaps many = diagnostic_measures(some_diagnostics(4, 2), titles(4)).back();
  ASSERT_EQ(many.maps.size(), 1u);
  EXPECT_EQ(many.maps[0].cells[0][0], 0.5) << "1 of 2 that trimming leaves, in all six pairs";
}

TEST(Measures, TotalsAddUpTensors) {
  const DiagnosticTotals t = totals_of(some_diagnostics(2, 3));
  EXPECT_EQ(t.entries, 3 * 5 * 4);
  EXPECT_EQ(t.models[0].changed, 3 * 5 * 4);
  EXPECT_EQ(t.changed_share(0), 1.0);
  EXPECT_NEAR(cosine_of(t, 0, 1), 15 * 0.25 / std::sqrt(5 * 6.0 * 5 * 9.0), 1e-12);
}

TEST(ShortNames, AreAsLongAsNeeded) {
  EXPECT_EQ(short_names({"demo/models/math", "demo/models/code/"}),
            (std::vector<std::string>{"math", "code"}));
  EXPECT_EQ(short_names({"a/math", "b/math"}), (std::vector<std::string>{"a/math", "b/math"}));
}

}  // namespace
}  // namespace lewis
