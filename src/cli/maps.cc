#include "cli/maps.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/table.h"
#include "report/charts.h"

namespace lewis {
namespace {

constexpr size_t kBetween = 4;  // columns between maps side by side

// A map as lines of text.
struct MapText {
  std::vector<std::string> lines;
  size_t width() const {
    size_t widest = 0;
    for (const std::string& line : lines) widest = std::max(widest, display_width(line));
    return widest;
  }
};

std::string cell_of(double value, const HeatMaps& measure) {
  return measure.unit == Unit::kPercent ? fmt::format(" {:5.1f} ", 100 * value)
                                        : fmt::format(" {:.3f} ", value);
}

// Columns of projections [first, last) of one map, cut to the terminal's width.
MapText text_of_map(const HeatMaps& measure, const HeatMap& map, size_t first, size_t last,
                    const Terminal& terminal) {
  const Scale scale = scale_of(measure);
  std::vector<Table::Column> columns = {{"layer"}};
  for (size_t p = first; p < last; ++p) columns.push_back({measure.projections[p]});
  Table table(columns);
  for (size_t l = 0; l < measure.layers.size(); ++l) {
    std::vector<TerminalText> cells = {std::to_string(measure.layers[l])};
    for (size_t p = first; p < last; ++p) {
      const auto& value = map.cells[p][l];
      if (!value) {
        cells.emplace_back();
        continue;
      }
      const double share =
          scale.high > scale.low ? (*value - scale.low) / (scale.high - scale.low) : 0.5;
      const std::string text = cell_of(*value, measure);
      cells.push_back(scale.diverges ? diverging_cell(text, share, terminal.color)
                                     : heat_cell(text, share, terminal.color));
    }
    table.add(std::move(cells));
  }
  Terminal whole = terminal;  // the map is cut already
  whole.tty = false;
  const auto room = static_cast<size_t>(std::max(terminal.width, 20));
  MapText text_map;
  const std::string title = map.title.empty() ? measure.title : measure.title + ", " + map.title;
  text_map.lines.push_back(
      styled(elide(title + (measure.unit == Unit::kPercent ? " (%)" : ""), room), "1",
             terminal.color)
          .string());
  const std::string text = table.text(whole).string();
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    text_map.lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return text_map;
}

// The most projections from `first` on that fit in `width` columns, at least one.
size_t fitting(const HeatMaps& measure, size_t first, size_t width) {
  size_t used = 5, last = first;
  while (last < measure.projections.size()) {
    used += 2 + std::max<size_t>(7, display_width(printable(measure.projections[last])));
    if (used > width && last > first) break;
    ++last;
  }
  return last;
}

std::string side_by_side(const std::vector<MapText>& maps) {
  std::string text;
  size_t height = 0;
  for (const MapText& b : maps) height = std::max(height, b.lines.size());
  for (size_t line = 0; line < height; ++line) {
    std::string whole;
    size_t begin = 0;  // of the map, in columns
    for (const MapText& b : maps) {
      if (line < b.lines.size()) {
        whole += std::string(begin - display_width(whole), ' ') + b.lines[line];
      }
      begin += b.width() + kBetween;
    }
    text += whole + "\n";
  }
  return text;
}

}  // namespace

TerminalText terminal_maps(const std::vector<HeatMaps>& measures, const Terminal& terminal) {
  const auto room = static_cast<size_t>(std::max(terminal.width, 20));
  std::string text;
  std::vector<MapText> row;
  size_t used = 0;
  const auto flush = [&] {
    if (!row.empty()) text += (text.empty() ? "" : "\n") + side_by_side(row);
    row.clear();
    used = 0;
  };
  for (const HeatMaps& measure : measures) {
    for (const HeatMap& map : measure.maps) {
      for (size_t first = 0; first < measure.projections.size();) {
        const size_t last = fitting(measure, first, room);
        MapText text_map = text_of_map(measure, map, first, last, terminal);
        if (used + text_map.width() > room) flush();
        used += text_map.width() + kBetween;
        row.push_back(std::move(text_map));
        first = last;
      }
    }
    if (measure.maps.size() > 1) flush();  // models beside each other, not measures
  }
  flush();
  return TerminalText::ready(text);
}

}  // namespace lewis
