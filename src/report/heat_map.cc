#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "report/charts.h"
#include "report/escape.h"

namespace lewis {
namespace {

constexpr double kTop = 26, kType = 11;
constexpr size_t kFewLayers = 24;  // up to this number cells have gaps

// The width of a page holds three maps side by side, or two if they are wide.
double width_of(const HeatMaps& measure) { return measure.maps.size() % 3 == 0 ? 340 : 460; }

// The positions of cells.
struct Grid {
  double width = 0, left = 0, cell_width = 0, cell_height = 0, gap = 0;
  size_t rows = 0, columns = 0;
  double bottom() const { return kTop + cell_height * static_cast<double>(rows); }
};

// Removes "_proj", which ends every name, from labels.
std::vector<std::string> short_names(const std::vector<std::string>& projections) {
  constexpr std::string_view end = "_proj";
  std::vector<std::string> names = projections;
  for (std::string& name : names) {
    if (name.ends_with(end) && name.size() > end.size()) name.resize(name.size() - end.size());
  }
  return names;
}

Grid grid_of(const HeatMaps& measure, const std::vector<std::string>& names) {
  Grid grid;
  double widest = text_width("layer", kType);
  for (const std::string& name : names) widest = std::max(widest, text_width(name, kType));
  grid.width = width_of(measure);
  grid.left = std::min(widest, 120.0) + 8;
  grid.rows = names.size();
  grid.columns = std::max<size_t>(1, measure.layers.size());
  grid.cell_width = (grid.width - grid.left) / static_cast<double>(grid.columns);
  grid.cell_height = grid.rows <= 10 ? 21 : 15;
  grid.gap = grid.columns <= kFewLayers ? 1.5 : 0;
  return grid;
}

void draw_legend(const HeatMaps& measure, const Scale& scale, Svg& svg) {
  constexpr int kSteps = 30;
  constexpr double kStep = 3;
  const double end = width_of(measure);
  const std::string high = scale.text(scale.high, measure.unit);
  const double right = end - text_width(high, kType) - 4, left = right - kSteps * kStep;
  for (int i = 0; i < kSteps; ++i) {
    const double value = scale.low + (scale.high - scale.low) * (i + 0.5) / kSteps;
    svg.rect(left + i * kStep, 5, i + 1 < kSteps ? kStep + 0.5 : kStep, 9,
             scale.color(value).hex());
  }
  svg.text(end, 13.5, "t m r", high);
  svg.text(left - 5, 13.5, "t m r", scale.text(scale.low, measure.unit));
}

std::string cell_path(const Grid& grid, size_t row, size_t column) {
  const std::string w = number(1 - grid.gap / grid.cell_width),
                    h = number(1 - grid.gap / grid.cell_height);
  return fmt::format("M{} {}h{}v{}h-{}", column, row, w, h, w);
}

// Draws cells of one colour as one path in units of a cell, which takes an eighth of the bytes of
// rectangles.
void draw_cells(const HeatMaps& measure, const HeatMap& map, const Scale& scale, const Grid& grid,
                Hover hover, Svg& svg) {
  constexpr double kShades = 63;
  std::map<int, std::string> by_shade;
  for (size_t row = 0; row < grid.rows; ++row) {
    for (size_t column = 0; column < measure.layers.size(); ++column) {
      const auto& value = map.cells[row][column];
      if (!value) continue;
      const double share =
          scale.high > scale.low ? (*value - scale.low) / (scale.high - scale.low) : 0.5;
      std::string& cells =
          by_shade[static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * kShades))];
      if (hover == Hover::kNone) {
        cells += cell_path(grid, row, column);
        continue;
      }
      cells += fmt::format("<path d=\"{}\"><title>{}{}, {}: {}</title></path>",
                           cell_path(grid, row, column), grid.gap > 0 ? "layer " : "",
                           measure.layers[column], escape_markup(measure.projections[row]),
                           exact_text(*value, measure.unit));
    }
  }
  svg.rect(grid.left, kTop, grid.width - grid.left - grid.gap, grid.bottom() - kTop - grid.gap,
           "z");
  svg.raw(fmt::format("<g transform=\"translate({} {}) scale({:.4f} {})\"{}>", number(grid.left),
                      number(kTop), grid.cell_width, number(grid.cell_height),
                      grid.gap == 0 ? " shape-rendering=\"crispEdges\"" : ""));
  for (const auto& [shade, cells] : by_shade) {
    const double value = scale.low + (scale.high - scale.low) * shade / kShades;
    const std::string color = scale.color(value).hex();
    svg.raw(hover == Hover::kNone ? fmt::format("<path fill=\"{}\" d=\"{}\"/>", color, cells)
                                  : fmt::format("<g fill=\"{}\">{}</g>", color, cells));
  }
  svg.raw("</g>");
}

// The number of a cell, written in two or three characters.
std::string cell_text(double value, Unit unit, double largest) {
  if (unit == Unit::kPercent) return fmt::format("{:.0f}", 100 * value);
  std::string text = fmt::format("{:.{}f}", value, largest < 0.2 ? 3 : 2);
  if (text.starts_with("0.")) text.erase(0, 1);
  if (text.starts_with("-0.")) text.erase(1, 1);
  return text;
}

// Writes the numbers into the cells where they fit.
void draw_numbers(const HeatMaps& measure, const HeatMap& map, const Scale& scale, const Grid& grid,
                  Svg& svg) {
  if (grid.cell_width < 24) return;
  for (size_t row = 0; row < grid.rows; ++row) {
    for (size_t column = 0; column < measure.layers.size(); ++column) {
      const auto& value = map.cells[row][column];
      if (!value) continue;
      svg.text(grid.left + (static_cast<double>(column) + 0.5) * grid.cell_width - grid.gap / 2,
               kTop + (static_cast<double>(row) + 0.5) * grid.cell_height + 2.6,
               scale.color(*value).wants_dark_text() ? "t n c bl q" : "t n c wh q",
               cell_text(*value, measure.unit, std::max(std::abs(scale.low), scale.high)));
    }
  }
}

void draw_axes(const HeatMaps& measure, const std::vector<std::string>& names, const Grid& grid,
               Svg& svg) {
  for (size_t row = 0; row < grid.rows; ++row) {
    svg.text(grid.left - 6, kTop + (static_cast<double>(row) + 0.5) * grid.cell_height + 3, "t m r",
             shortened(names[row], kType, grid.left - 7));
  }
  svg.text(grid.left - 6, grid.bottom() + 13, "t m r", "layer");
  const size_t every = grid.columns <= kFewLayers && grid.cell_width >= 16 ? 1
                       : grid.columns <= 50                                ? 5
                                                                           : 10;
  for (size_t column = 0; column < measure.layers.size(); ++column) {
    if (measure.layers[column] % static_cast<int64_t>(every) != 0) continue;
    svg.text(grid.left + (static_cast<double>(column) + 0.5) * grid.cell_width - grid.gap / 2,
             grid.bottom() + 13, "t m c", std::to_string(measure.layers[column]));
  }
}

}  // namespace

Color Scale::color(double value) const {
  const double share = high > low ? (value - low) / (high - low) : 0.5;
  return diverges ? diverging(share) : sequential(share);
}

Scale scale_of(const HeatMaps& measure) {
  Scale scale{INFINITY, -INFINITY, measure.centre.has_value()};
  for (const HeatMap& map : measure.maps) {
    for (const auto& row : map.cells) {
      for (const auto& value : row) {
        if (!value) continue;
        scale.low = std::min(scale.low, *value);
        scale.high = std::max(scale.high, *value);
      }
    }
  }
  if (scale.low > scale.high) scale.low = 0, scale.high = 1;
  if (!measure.centre) return scale;
  const double reach =
      std::max({scale.high - *measure.centre, *measure.centre - scale.low, 0.05 * *measure.centre});
  return {*measure.centre - reach, *measure.centre + reach, true};
}

// The number of decimals that distinguish hundredths of the range.
std::string Scale::text(double value, Unit unit) const {
  const double shown = (unit == Unit::kPercent ? 100 : 1) * value,
               range = (unit == Unit::kPercent ? 100 : 1) * (high - low);
  const int decimals =
      range > 0 ? std::clamp(static_cast<int>(std::ceil(1.7 - std::log10(range))), 0, 6) : 3;
  return fmt::format("{:.{}f}{}", shown, decimals, unit == Unit::kPercent ? " %" : "");
}

std::string exact_text(double value, Unit unit) {
  if (unit == Unit::kPercent) return fmt::format("{:.3f} %", 100 * value);
  return fmt::format("{:.6g}", value);
}

std::string heat_map(const HeatMaps& measure, size_t index, Hover hover, Medium medium) {
  const HeatMap& map = measure.maps.at(index);
  const std::vector<std::string> names = short_names(measure.projections);
  const Grid grid = grid_of(measure, names);
  const Scale scale = scale_of(measure);
  Svg svg(grid.width, grid.bottom() + 18,
          fmt::format("{} of {}, layer by projection, from {} to {}", measure.title, map.title,
                      scale.text(scale.low, measure.unit), scale.text(scale.high, measure.unit)));
  const std::string title = medium == Medium::kFile ? measure.title + ", " + map.title : map.title;
  svg.text(grid.left, 13.5, "t b", shortened(title, kType, grid.width - grid.left - 170));
  draw_legend(measure, scale, svg);
  draw_cells(measure, map, scale, grid, hover, svg);
  draw_numbers(measure, map, scale, grid, svg);
  draw_axes(measure, names, grid, svg);
  return svg.finish(medium);
}

}  // namespace lewis
