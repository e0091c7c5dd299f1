// The drawings of a report, one function each.
#pragma once

#include <optional>
#include <string>

#include "report/palette.h"
#include "report/report.h"
#include "report/svg.h"

namespace lewis {

// From numbers to colours; the same for all maps of a measure.
struct Scale {
  double low = 0, high = 1;
  bool diverges = false;

  Color color(double value) const;
  // As legends have it: "31 %", "0.31".
  std::string text(double value, Unit unit) const;
};
Scale scale_of(const HeatMaps& measure);

// A number as tables and hover texts have it.
std::string exact_text(double value, Unit unit);

// Whether every cell says its number on hover. A page with very many cells leaves it to its tables.
enum class Hover { kCells, kNone };

std::string heat_map(const HeatMaps& measure, size_t map, Hover hover, Medium medium);
std::string dot_plot(const ScorePanel& panel, Medium medium);
std::string time_line(const RunChart& run, Medium medium);
std::string memory_chart(const RunChart& run, Medium medium);

// Round numbers from low to high, about `count` of them, for an axis.
std::vector<double> ticks_of(double low, double high, int count);

}  // namespace lewis
