// The drawings of a report, one function per drawing.
#pragma once

#include <optional>
#include <string>

#include "report/palette.h"
#include "report/report.h"
#include "report/svg.h"

namespace lewis {

// Maps numbers to colours; all maps of a measure share one scale.
struct Scale {
  double low = 0, high = 1;
  bool diverges = false;

  Color color(double value) const;
  // A number as legends write it: "31 %", "0.31".
  std::string text(double value, Unit unit) const;
};
Scale scale_of(const HeatMaps& measure);

// A number as tables and hover texts write it.
std::string exact_text(double value, Unit unit);

// Whether every cell shows its number on hover. On a page with very many cells only tables do.
enum class Hover { kCells, kNone };

std::string heat_map(const HeatMaps& measure, size_t map, Hover hover, Medium medium);
std::string dot_plot(const ScorePanel& panel, Medium medium);
std::string time_line(const RunChart& run, Medium medium);
std::string memory_chart(const RunChart& run, Medium medium);

// About `count` round numbers from low to high, for an axis.
std::vector<double> ticks_of(double low, double high, int count);

}  // namespace lewis
