#include "report/svg.h"

#include <fmt/format.h>

#include <cmath>

#include "report/escape.h"

namespace lewis {
namespace {

std::string paint_of(std::string_view paint) {
  const bool color = paint.starts_with('#') || paint.starts_with("url(");
  return fmt::format(" {}=\"{}\"", color ? "fill" : "class", paint);
}

// An element, with its hover text if it has one.
std::string closed(std::string element, std::string_view name, std::string_view title) {
  if (title.empty()) return element + "/>";
  return fmt::format("{}><title>{}</title></{}>", element, escape_markup(title), name);
}

}  // namespace

std::string number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string chart_style(bool dark) {
  const char* ink = dark ? "#ececea" : "#1c1d21";
  const char* muted = dark ? "#9b9ea6" : "#676b74";
  const char* faint = dark ? "#34363c" : "#e4e4e0";
  const char* plain = dark ? "#b9bcc4" : "#4a4d55";
  const char* accent = dark ? "#ff8f5a" : "#d4480b";
  return fmt::format(
      ".t{{font:11px Helvetica,Arial,\"Liberation Sans\",sans-serif;fill:{0}}}"
      ".m{{fill:{1}}}.b{{font-weight:600}}.n{{font-size:9.5px}}.r{{text-anchor:end}}"
      ".c{{text-anchor:middle}}.g{{stroke:{2};stroke-width:1}}.z{{fill:{2}}}"
      ".p{{fill:{3};stroke:none}}.pl{{stroke:{3};stroke-width:2;fill:none}}"
      ".a{{fill:{4}}}.al{{stroke:{4};stroke-width:2;fill:none}}"
      ".dl{{stroke:{4};stroke-width:1;stroke-dasharray:3 3;fill:none}}"
      ".ar{{fill:{3};opacity:.18}}.bl{{fill:#111}}.wh{{fill:#fff}}",
      ink, muted, faint, plain, accent);
}

void Svg::text(double x, double y, std::string_view classes, std::string_view text) {
  body_ += fmt::format("<text x=\"{}\" y=\"{}\" class=\"{}\">{}</text>", number(x), number(y),
                       classes, escape_markup(text));
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view classes) {
  body_ += fmt::format("<path class=\"{}\" d=\"M{} {}L{} {}\"/>", classes, number(x1), number(y1),
                       number(x2), number(y2));
}

void Svg::rect(double x, double y, double width, double height, std::string_view paint,
               std::string_view title) {
  body_ += closed(fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}", number(x),
                              number(y), number(width), number(height), paint_of(paint)),
                  "rect", title);
}

void Svg::circle(double x, double y, double radius, std::string_view classes,
                 std::string_view title) {
  body_ += closed(fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"{}\"", number(x),
                              number(y), number(radius), classes),
                  "circle", title);
}

std::string Svg::finish(Medium medium) const {
  const bool file = medium == Medium::kFile;
  const std::string size =
      file ? fmt::format(" width=\"{}\" height=\"{}\"", number(width_), number(height_)) : "";
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\"{} role=\"img\" "
      "aria-label=\"{}\">{}{}</svg>\n",
      number(width_), number(height_), size, escape_markup(label_),
      file ? "<style>" + chart_style(false) + "</style>" : "", body_);
}

double text_width(std::string_view text, double size) {
  double width = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >> 6 == 2) continue;  // a continuation byte of UTF-8
    const bool narrow = std::string_view("ijlftrI.,:;|'![]() -").find(c) != std::string_view::npos;
    const bool wide = std::string_view("mwMW@%").find(c) != std::string_view::npos;
    width += narrow ? 0.33 : wide ? 0.85 : byte >= 'A' && byte <= 'Z' ? 0.7 : 0.56;
  }
  return width * size;
}

std::string shortened(const std::string& text, double size, double width) {
  if (text_width(text, size) <= width) return text;
  std::string start = text;
  while (!start.empty() && text_width(start + "…", size) > width) {
    while (!start.empty() && static_cast<unsigned char>(start.back()) >> 6 == 2) start.pop_back();
    if (!start.empty()) start.pop_back();
  }
  return start + "…";
}

}  // namespace lewis
