#include "report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "base/hash.h"
#include "base/human.h"
#include "report/charts.h"
#include "report/escape.h"
#include "report/tensor_groups.h"

namespace lewis {
namespace {

// To keep pages below 1 MB: above the first number of cells, only tables show numbers (no hover
// texts); above the second, only --json does.
constexpr size_t kHoverCells = 11'000, kTableCells = 32'000;

size_t cells_of(const Report& report) {
  size_t cells = 0;
  for (const HeatMaps& m : report.measures)
    cells += m.maps.size() * m.projections.size() * m.layers.size();
  return cells;
}

std::string list_of(const std::vector<std::string>& lines) {
  std::string html = "<ul>";
  for (const std::string& line : lines) html += "<li>" + escape_markup(line) + "</li>\n";
  return html + "</ul>\n";
}

std::string head_of(const Report& r) {
  std::string html = fmt::format(
      "<header><p class=\"eye\">lewis merge report</p>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n",
      escape_markup(r.title), escape_markup(r.summary));
  if (!r.key_figures.empty()) html += "<dl class=\"key\">";
  for (const KeyFigure& k : r.key_figures) {
    html += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", escape_markup(k.label),
                        escape_markup(k.value));
  }
  if (!r.key_figures.empty()) html += "</dl>\n";
  html += "</header>\n";
  if (!r.warnings.empty())
    html += "<div class=\"warn\" role=\"note\"><strong>Warnings of the merge</strong>" +
            list_of(r.warnings) + "</div>\n";
  if (!r.missing.empty())
    html += "<div class=\"warn quiet\" role=\"note\"><strong>Not in this report</strong>" +
            list_of(r.missing) + "</div>\n";
  return html;
}

std::string_view class_of(ScoreVerdict verdict) {
  switch (verdict) {
    case ScoreVerdict::kBetter:
      return "up";
    case ScoreVerdict::kWorse:
      return "down";
    case ScoreVerdict::kNotShown:
      break;
  }
  return "no";
}

std::string score_table(const ScorePanel& panel) {
  std::string html =
      "<details><summary>Exact numbers</summary><div class=\"scroll\"><table><thead><tr>"
      "<th>model<th>score<th>95 % interval</thead><tbody>";
  for (const Score& s : panel.scores) {
    html += fmt::format("<tr><th>{}<td>{}<td>{} to {}", escape_markup(s.model),
                        exact_text(s.value, panel.unit), exact_text(s.low, panel.unit),
                        exact_text(s.high, panel.unit));
  }
  return html + "</table></div></details>";
}

std::string scores_of(const Report& r) {
  if (r.scores.empty()) return "";
  std::string html =
      "<section><h2>Did it help?</h2>\n<p class=\"note\">A dot is a model's score, the line its 95 "
      "% interval. Below, the merged model is compared with the others item by item; in brackets "
      "the 95 % interval of the difference.</p>\n<div class=\"maps plots\">";
  for (const ScorePanel& panel : r.scores) {
    html += "<figure>" + dot_plot(panel, Medium::kPage) + "<ul class=\"said\">";
    for (const ScoreComparison& c : panel.comparisons) {
      html += fmt::format("<li class=\"{}\">{}</li>", class_of(c.verdict),
                          escape_markup(comparison_text(panel, c)));
    }
    html += "</ul>" + score_table(panel) + "</figure>\n";
  }
  return html + "</div></section>\n";
}

std::string map_table(const HeatMaps& measure, const HeatMap& map) {
  std::string html =
      "<table><caption>" + escape_markup(map.title) + "</caption><thead><tr><th>layer";
  for (const std::string& p : measure.projections) html += "<th>" + escape_markup(p);
  html += "</thead><tbody>";
  for (size_t l = 0; l < measure.layers.size(); ++l) {
    html += fmt::format("<tr><th>{}", measure.layers[l]);
    for (const auto& row : map.cells)
      html += "<td>" + (row[l] ? exact_text(*row[l], measure.unit) : std::string());
    html += "\n";
  }
  return html + "</table>";
}

std::string measure_of(const HeatMaps& m, Hover hover, bool tables) {
  std::string html = fmt::format(
      "<div class=\"measure\"><h3>{}</h3>\n<p class=\"note\">{}</p>\n<div class=\"maps{}\">",
      escape_markup(m.title), escape_markup(m.explanation), m.maps.size() % 3 == 0 ? " three" : "");
  for (size_t i = 0; i < m.maps.size(); ++i)
    html += "<figure>" + heat_map(m, i, hover, Medium::kPage) + "</figure>\n";
  html += "</div></div>\n";
  if (!tables) return html;
  html += "<details><summary>Exact numbers</summary><div class=\"scroll\">";
  for (const HeatMap& map : m.maps) html += map_table(m, map);
  return html + "</div></details>\n";
}

std::string number_table(const NumberTable& t) {
  std::string html = fmt::format("<div><h3>{}</h3>\n", escape_markup(t.title));
  html += "<div class=\"scroll\"><table class=\"totals\"><thead><tr>";
  for (const std::string& name : t.head) html += "<th>" + escape_markup(name);
  html += "</thead><tbody>";
  for (const auto& row : t.rows) {
    for (size_t i = 0; i < row.size(); ++i)
      html += (i == 0 ? "<tr><th>" : "<td>") + escape_markup(row[i]);
    html += "\n";
  }
  return html +
         fmt::format("</table></div><p class=\"note\">{}</p></div>\n", escape_markup(t.note));
}

std::string proofs_of(const Report& r) {
  if (r.proofs.empty()) return "";
  std::string html = "<section><h2>Is the adapter in it?</h2>\n";
  for (const NumberTable& t : r.proofs) html += number_table(t);
  return html + "</section>\n";
}

std::string measures_of(const Report& r) {
  if (r.measures.empty()) return "";
  const Hover hover = cells_of(r) <= kHoverCells ? Hover::kCells : Hover::kNone;
  const bool tables = cells_of(r) <= kTableCells;
  std::string html = fmt::format(
      "<section><h2>Layer by layer</h2>\n<p class=\"note\">Columns are layers, the first on the "
      "left; rows are the linear layers of a block. All maps of one measure share one "
      "scale.{}</p>\n",
      hover == Hover::kCells ? " A cell tells its exact number on hover."
      : tables               ? " Exact numbers are in the tables."
                             : " Exact numbers are too many for a page: `lewis report --json` "
                               "prints them.");
  if (!r.tables.empty()) html += "<div class=\"maps\">";
  for (const NumberTable& t : r.tables) html += number_table(t);
  if (!r.tables.empty()) html += "</div>\n";
  for (const HeatMaps& m : r.measures) html += measure_of(m, hover, tables);
  return html + "</section>\n";
}

std::string run_of(const Report& r) {
  if (!r.run) return "";
  return "<section><h2>The run</h2>\n<div class=\"maps\"><figure><h3>Time</h3>" +
         time_line(*r.run, Medium::kPage) + "</figure>\n<figure><h3>Memory" +
         std::string(r.run->memory_budget ? " and its budget" : "") + "</h3>" +
         memory_chart(*r.run, Medium::kPage) + "</figure></div></section>\n";
}

std::string tensors_of(const Report& r) {
  if (r.tensors.empty()) return "";
  std::array<uint64_t, 4> counts{};
  for (const TensorLine& t : r.tensors) ++counts[static_cast<size_t>(t.fate)];
  const auto count = [&](Fate fate) { return with_commas(counts[static_cast<size_t>(fate)]); };
  std::string html = fmt::format(
      "<section><h2>Every tensor</h2>\n<p>{} tensors: {} merged, {} refined, {} copied unchanged, "
      "{} "
      "taken over from an earlier run, 0 refused. A tensor that does not fit ends a merge, so none "
      "is "
      "ever left out.</p>\n",
      with_commas(r.tensors.size()), count(Fate::kMerged), count(Fate::kRefined),
      count(Fate::kCopied), count(Fate::kTakenOver));
  html +=
      "<details><summary>The list, numbers in names drawn together</summary><div class=\"scroll\">"
      "<table><thead><tr><th>tensors<th class=\"l\">name<th class=\"l\">fate<th>shape<th>type"
      "<th>parameters</thead><tbody>";
  for (const TensorGroup& g : group_tensors(r.tensors)) {
    html += fmt::format(
        "<tr><td class=\"l\">{}<td class=\"l code name\">{}<td class=\"l\">{}<td>{}<td>{}<td>{}\n",
        with_commas(g.tensors), escape_markup(g.pattern), fate_name(g.fate), escape_markup(g.shape),
        escape_markup(g.dtype), with_commas(g.elements));
  }
  return html + "</table></div></details></section>\n";
}

std::string facts_of(const std::vector<Fact>& facts) {
  std::string html = "<div class=\"scroll\"><table class=\"facts\"><tbody>";
  for (const Fact& f : facts) {
    html += fmt::format("<tr><th>{}<td{}>{}\n", escape_markup(f.label),
                        f.code ? " class=\"code\"" : "", escape_markup(f.value));
  }
  return html + "</table></div>\n";
}

std::string provenance_of(const Report& r) {
  std::string html = "<section><h2>Made from</h2>\n";
  if (!r.models.empty()) html += facts_of(r.models);
  if (!r.provenance.empty()) html += "<h3>Made by</h3>\n" + facts_of(r.provenance);
  if (!r.recipe.empty()) {
    html += "<details><summary>The recipe</summary><pre>" + escape_markup_lines(r.recipe) +
            "</pre></details>\n";
  }
  return html + "</section>\n";
}

std::string difference_number(double value, Unit unit) {
  return unit == Unit::kPercent ? fmt::format("{:.1f}", 100 * value) : fmt::format("{:.4f}", value);
}

// Makes the names of figures unique.
class FigureNames {
 public:
  std::string unique(const std::string& text) {
    const std::string slug = file_slug(text);
    std::string name = slug;
    for (int i = 2; !used_.insert(name).second; ++i) name = fmt::format("{}-{}", slug, i);
    return name;
  }

 private:
  std::set<std::string> used_;
};

}  // namespace

std::string comparison_text(const ScorePanel& panel, const ScoreComparison& c) {
  const std::string unit = (panel.unit == Unit::kPercent ? " points" : "") +
                           (c.unit.empty() ? std::string() : " " + c.unit);
  const auto text = [&](double value) { return difference_number(value, panel.unit); };
  if (c.verdict == ScoreVerdict::kNotShown)
    return fmt::format("no difference to {} shown [{}, {}]{}", c.against, text(c.low), text(c.high),
                       unit);
  // The amount by which it is better or worse, positive in both directions of a score.
  const double sign = c.difference < 0 ? -1 : 1;
  const double low = std::min(sign * c.low, sign * c.high),
               high = std::max(sign * c.low, sign * c.high);
  return fmt::format("{} than {} by {}{} [{}, {}]",
                     c.verdict == ScoreVerdict::kBetter ? "better" : "worse", c.against,
                     text(sign * c.difference), unit, text(low), text(high));
}

std::string report_html(const Report& r) {
  const std::string style = page_style();
  std::string html = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n";
  html += fmt::format(
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'sha256-{}'; base-uri 'none'; form-action 'none'\">\n",
      sha256_base64(style));
  html += fmt::format(
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<meta "
      "name=\"referrer\" content=\"no-referrer\">\n<title>{}: lewis merge report</title>\n"
      "<style>{}</style></head>\n<body>\n",
      escape_markup(r.title), style);
  html += head_of(r) + scores_of(r) + proofs_of(r) + measures_of(r) + run_of(r) + tensors_of(r) +
          provenance_of(r);
  return html +
         "<footer class=\"note\">Written by lewis. This page is one file: it loads nothing and "
         "runs "
         "no script.</footer>\n</body></html>\n";
}

std::vector<Figure> report_figures(const Report& r) {
  std::vector<Figure> figures;
  FigureNames names;
  const auto add = [&](const std::string& name, std::string svg) {
    figures.push_back({names.unique(name), std::move(svg)});
  };
  for (const ScorePanel& p : r.scores)
    add("scores " + p.task + " " + p.metric, dot_plot(p, Medium::kFile));
  for (const HeatMaps& m : r.measures) {
    for (size_t i = 0; i < m.maps.size(); ++i)
      add(m.name + " " + m.maps[i].title, heat_map(m, i, Hover::kCells, Medium::kFile));
  }
  if (r.run) {
    add("run time", time_line(*r.run, Medium::kFile));
    add("run memory", memory_chart(*r.run, Medium::kFile));
  }
  return figures;
}

}  // namespace lewis
