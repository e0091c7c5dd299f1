// The page and its figures: well-formed, closed to hostile names, small, the same every time.
#include "report/report.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "base/hash.h"
#include "report/charts.h"
#include "report/escape.h"
#include "report/page.h"
#include "report/tensor_groups.h"
#include "reports.h"
#include "xml_check.h"

namespace lewis {
namespace {

size_t count_of(const std::string& text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// Returns every drawing of a page.
std::vector<std::string> drawings(const std::string& html) {
  std::vector<std::string> found;
  for (size_t at = html.find("<svg "); at != std::string::npos; at = html.find("<svg ", at + 1)) {
    const size_t end = html.find("</svg>", at) + 6;
    found.push_back(html.substr(at, end - at));
  }
  return found;
}

TEST(Escape, TextStaysText) {
  EXPECT_EQ(escape_markup("a<b>&\"'c"), "a&lt;b&gt;&amp;&quot;&#39;c");
  EXPECT_EQ(escape_markup("größer 層"), "größer 層");
  EXPECT_EQ(escape_markup("tab\tline\nend"), "tab line end") << "one line";
  EXPECT_EQ(escape_markup_lines("tab\tline\n<end>"), "tab\tline\n&lt;end&gt;");
  EXPECT_EQ(escape_markup(std::string("a\0b\x1b\x7f", 5)),
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(escape_markup("a\xff\xc3"), "a\xef\xbf\xbd\xef\xbf\xbd") << "no UTF-8";
  EXPECT_EQ(escape_markup("a\u202e\u2066z"), "a\xef\xbf\xbd\xef\xbf\xbdz") << "turns text around";
  EXPECT_EQ(escape_markup("a\u061c\u2028\U000e0041z"), "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz")
      << "marks of direction, lines, tags";
}

TEST(Escape, SlugsAreFileNames) {
  EXPECT_EQ(file_slug("Energy dropped, math/v2"), "energy-dropped-math-v2");
  EXPECT_EQ(file_slug("../../etc/passwd"), "etc-passwd");
  EXPECT_EQ(file_slug("層"), "figure");
  EXPECT_LE(file_slug(std::string(500, 'x')).size(), 60u);
}

TEST(Page, IsOneClosedFile) {
  const std::string html = report_html(some_report());
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>"));
  EXPECT_EQ(count_of(html, "<script"), 0u);
  EXPECT_EQ(count_of(html, "style=\""), 0u) << "the policy would refuse it";
  EXPECT_FALSE(std::regex_search(html, std::regex(R"((src|href)=|@import|url\()")));
  const size_t links = count_of(html, "http");
  EXPECT_EQ(links, count_of(html, "http://www.w3.org/2000/svg") + count_of(html, "http-equiv"));
}

// The hash in the policy must be that of the style as this test finds it on the page.
TEST(Page, PolicyAllowsItsStyleAndNothingElse) {
  const std::string html = report_html(some_report());
  std::smatch policy;
  ASSERT_TRUE(std::regex_search(html, policy,
                                std::regex(R"re(Content-Security-Policy" content="([^"]*)")re")));
  const size_t begin = html.find("<style>") + 7, end = html.find("</style>");
  EXPECT_EQ(policy[1], "default-src 'none'; style-src 'sha256-" +
                           sha256_base64(html.substr(begin, end - begin)) +
                           "'; base-uri 'none'; form-action 'none'");
  EXPECT_EQ(count_of(html, "<style>"), 1u);
}

TEST(Page, HashIsWhatABrowserComputes) {
  // SHA-256 of the empty text: https://www.w3.org/TR/CSP3, and every other program.
  EXPECT_EQ(sha256_base64(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

TEST(Page, DrawingsAreWellFormed) {
  for (const std::string& svg : drawings(report_html(some_report())))
    EXPECT_NO_THROW(XmlCheck::elements(svg)) << svg;
  EXPECT_EQ(drawings(report_html(some_report())).size(), 1u + 2 * 2 + 2);
  for (const Figure& f : report_figures(some_report()))
    EXPECT_NO_THROW(XmlCheck::elements(f.svg.substr(0, f.svg.size() - 1))) << f.svg;
}

TEST(Page, TheCheckItselfCanFail) {
  EXPECT_THROW(XmlCheck::elements("<svg><g></svg>"), std::runtime_error);
  EXPECT_THROW(XmlCheck::elements("<svg a=\"1\" a=\"2\"/>"), std::runtime_error);
  EXPECT_THROW(XmlCheck::elements("<svg>a & b</svg>"), std::runtime_error);
  EXPECT_EQ(XmlCheck::elements("<svg>&lt;</svg>")[0].text, "<");
}

// Hostile text in every place that takes text comes out as text, in the same number of places.
TEST(Page, HostileNamesDoNothing) {
  const std::string evil = "</script><script>alert(1)</script>\"' onload=x <img src=x>]]>";
  Report r = some_report();
  r.title = r.summary = r.recipe = evil;
  r.warnings = r.missing = {evil};
  r.key_figures = {{evil, evil}};
  r.models = r.provenance = {{evil, evil, true}};
  r.tables = {{evil, evil, {evil}, {{evil, evil}}}};
  r.tensors = {{evil, evil, evil, 1, Fate::kMerged}};
  r.run->phases[0].name = evil;
  for (ScorePanel& p : r.scores) {
    p.task = p.metric = p.scores[0].model = p.comparisons[0].against = p.comparisons[0].unit = evil;
  }
  for (HeatMaps& m : r.measures) {
    m.name = m.title = m.explanation = m.projections[0] = m.maps[0].title = evil;
  }
  const std::string html = report_html(r), plain = report_html(some_report());
  EXPECT_EQ(count_of(html, "<script"), 0u);
  EXPECT_EQ(count_of(html, "<img"), 0u);
  EXPECT_EQ(count_of(html, "</script"), 0u);
  EXPECT_GT(count_of(html, "&lt;/script&gt;&lt;script&gt;alert(1)"), 15u) << "shown as it is";
  for (const std::string& svg : drawings(html)) EXPECT_NO_THROW(XmlCheck::elements(svg)) << svg;
  for (const Figure& f : report_figures(r)) {
    EXPECT_NO_THROW(XmlCheck::elements(f.svg.substr(0, f.svg.size() - 1)));
    EXPECT_TRUE(std::regex_match(f.name, std::regex("[a-z0-9-]+"))) << f.name;
  }
}

TEST(Page, ComparisonsInWords) {
  ScorePanel loss{.task = "t", .metric = "loss"};
  EXPECT_EQ(comparison_text(loss, {"uniform", -0.011, -0.012, -0.010, ScoreVerdict::kBetter, ""}),
            "better than uniform by 0.0110 [0.0100, 0.0120]");
  EXPECT_EQ(comparison_text(loss, {"uniform", 0.011, -0.001, 0.020, ScoreVerdict::kNotShown, ""}),
            "no difference to uniform shown [-0.0010, 0.0200]");
  loss.unit = Unit::kPercent;
  EXPECT_EQ(comparison_text(loss, {"base", -0.1, -0.2, -0.05, ScoreVerdict::kWorse, ""}),
            "worse than base by 10.0 points [5.0, 20.0]");
}

TEST(Page, SameBytesEveryTime) {
  EXPECT_EQ(report_html(some_report()), report_html(some_report()));
}

// A report of Llama 70B with three experts and six measures has hover texts and tables. A larger
// one has tables only, and an even larger one has neither.
TEST(Page, StaysBelowOneMegabyte) {
  for (const auto& [layers, models] : {std::pair<size_t, size_t>{80, 3}, {126, 5}, {126, 9}}) {
    Report r = some_report(layers, models);
    r.measures.clear();
    r.scores.clear();
    r.tables.clear();
    r.provenance.clear();
    for (const char* name : {"importance", "density", "size", "dropped", "kept", "conflict"})
      r.measures.push_back(some_measure(name, layers, models));
    const std::string html = report_html(r);
    EXPECT_LT(html.size(), 1'000'000u) << layers << " layers, " << models << " experts";
    EXPECT_GT(html.size(), 300'000u) << "the numbers are there";
    EXPECT_EQ(count_of(html, "<td>0."), models == 9 ? 0 : 6 * models * 7 * layers)
        << "every number is in a table";
    EXPECT_EQ(count_of(html, "</title></path>"), models == 3 ? 6 * models * 7 * layers : 0);
  }
}

// Every cell is at its place, has the colour of the scale, and shows its number on hover.
TEST(HeatMapChart, CellsAreTheNumbers) {
  HeatMaps m = some_measure("density", 5, 2);
  m.maps[1].cells[2][3] = std::nullopt;
  const auto elements = XmlCheck::elements([&] {
    std::string svg = heat_map(m, 1, Hover::kCells, Medium::kPage);
    svg.pop_back();
    return svg;
  }());
  const Scale scale = scale_of(m);
  size_t cells = 0;
  std::string fill;
  for (size_t i = 0; i < elements.size(); ++i) {
    if (elements[i].name == "g" && elements[i].attributes.contains("fill"))
      fill = elements[i].attributes.at("fill");
    if (elements[i].name != "path") continue;
    int layer = -1, row = -1;
    ASSERT_EQ(std::sscanf(elements[i].attributes.at("d").c_str(), "M%d %dh", &layer, &row), 2);
    const double value =
        m.maps[1].cells[static_cast<size_t>(row)][static_cast<size_t>(layer)].value();
    EXPECT_EQ(elements[i + 1].text, fmt::format("layer {}, {}: {:.6g}", layer,
                                                m.projections[static_cast<size_t>(row)], value));
    const Color wanted = scale.color(value);
    int red = 0, green = 0, blue = 0;
    std::sscanf(fill.c_str(), "#%2x%2x%2x", reinterpret_cast<unsigned*>(&red),
                reinterpret_cast<unsigned*>(&green), reinterpret_cast<unsigned*>(&blue));
    EXPECT_NEAR(red, wanted.red, 6);
    EXPECT_NEAR(green, wanted.green, 6);
    EXPECT_NEAR(blue, wanted.blue, 6);
    ++cells;
  }
  EXPECT_EQ(cells, 5 * 7 - 1u);
}

TEST(HeatMapChart, OneScaleForAllModels) {
  HeatMaps m = some_measure("density", 3, 2);
  m.maps[0].cells[0][0] = -2.0;
  m.maps[1].cells[6][2] = 9.0;
  EXPECT_EQ(scale_of(m).low, -2);
  EXPECT_EQ(scale_of(m).high, 9);
  m.centre = 0.5;
  EXPECT_EQ(scale_of(m).low, -8) << "as far below the centre as above";
  EXPECT_EQ(scale_of(m).color(0.5).hex(), diverging(0.5).hex());
}

TEST(HeatMapChart, NothingAndOneValueAreDrawn) {
  HeatMaps empty = some_measure("x", 1, 1);
  for (auto& row : empty.maps[0].cells) row[0] = std::nullopt;
  EXPECT_NO_THROW(heat_map(empty, 0, Hover::kCells, Medium::kFile));
  HeatMaps flat = some_measure("x", 1, 1);
  for (auto& row : flat.maps[0].cells) row[0] = 0.3;
  EXPECT_EQ(scale_of(flat).color(0.3).hex(), sequential(0.5).hex());
}

// The values of matplotlib's viridis at its ends and in the middle.
TEST(Palette, IsViridisAndTurnsAtTheMiddle) {
  EXPECT_EQ(sequential(0).hex(), "#440154");
  EXPECT_EQ(sequential(0.5).hex(), "#21918c");
  EXPECT_EQ(sequential(1).hex(), "#fde725");
  EXPECT_EQ(sequential(-3).hex(), sequential(0).hex());
  EXPECT_EQ(sequential(NAN).hex(), sequential(0).hex());
  EXPECT_FALSE(sequential(0).wants_dark_text());
  EXPECT_TRUE(sequential(1).wants_dark_text());
  EXPECT_GT(diverging(0.1).blue, diverging(0.1).red);
  EXPECT_GT(diverging(0.9).red, diverging(0.9).blue);
}

TEST(DotPlot, DotsLieWhereTheirNumbersAre) {
  std::string svg = dot_plot(some_scores(), Medium::kPage);
  svg.pop_back();
  std::vector<double> x;
  for (const XmlElement& e : XmlCheck::elements(svg)) {
    if (e.name == "circle") x.push_back(std::stod(e.attributes.at("cx")));
  }
  ASSERT_EQ(x.size(), 3u);
  EXPECT_NEAR((x[2] - x[0]) / (x[1] - x[0]), (0.30 - 0.08) / (0.67 - 0.08), 1e-3);
}

TEST(DotPlot, OneModelAndEqualScoresAreDrawn) {
  ScorePanel p = some_scores();
  p.scores = {{"only", Role::kMerged, 0.5, 0.5, 0.5}};
  EXPECT_NO_THROW(dot_plot(p, Medium::kPage));
  EXPECT_EQ(dot_plot(p, Medium::kPage).find("nan"), std::string::npos);
}

TEST(Ticks, AreRoundAndInside) {
  EXPECT_EQ(ticks_of(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  for (const double high : {1e-6, 0.37, 1.0, 8.4, 12345.0}) {
    const auto ticks = ticks_of(0, high, 4);
    EXPECT_GE(ticks.size(), 2u) << high;
    EXPECT_LE(ticks.size(), 9u) << high;
    EXPECT_LE(ticks.back(), high * (1 + 1e-9));
  }
}

TEST(Tensors, AreGroupedByPatternAndNoneIsLost) {
  std::vector<TensorLine> lines;
  for (int l = 0; l < 12; ++l) {
    for (int e = 0; e < 8; ++e) {
      if (l == 3 && e == 5) continue;
      lines.push_back({fmt::format("model.layers.{}.mlp.experts.{}.w1.weight", l, e), "BF16", "[2]",
                       2, Fate::kMerged});
    }
  }
  lines.push_back({"model.layers.4.mlp.experts.1.w1.bias", "BF16", "[2]", 2, Fate::kMerged});
  lines.push_back({"lm_head.weight", "F32", "[7]", 7, Fate::kCopied});
  const auto groups = group_tensors(lines);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].pattern, "model.layers.{0-11}.mlp.experts.{0-7}.w1.weight");
  EXPECT_EQ(groups[0].tensors, 95u) << "the count says that one is not there";
  EXPECT_EQ(groups[0].elements, 190u);
  EXPECT_EQ(groups[1].pattern, "model.layers.4.mlp.experts.1.w1.bias");
  EXPECT_EQ(groups[2].fate, Fate::kCopied);
  lines.erase(lines.begin() + 8 * 6, lines.begin() + 8 * 9 - 1);
  EXPECT_NE(group_tensors(lines)[0].pattern.find("{0-11: "), std::string::npos);
}

}  // namespace
}  // namespace lewis
