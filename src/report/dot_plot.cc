#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/charts.h"

namespace lewis {
namespace {

constexpr double kWidth = 340, kType = 11, kTop = 46, kRow = 23;

// The left and right end of the track, and the values there.
struct Track {
  double left = 0, right = 0, low = 0, high = 1;
  double x(double value) const { return left + (value - low) / (high - low) * (right - left); }
};

int decimals_of(double step) {
  return std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 6);
}

std::string axis_text(double value, Unit unit, int decimals) {
  return unit == Unit::kPercent ? fmt::format("{:.{}f} %", 100 * value, std::max(0, decimals - 2))
                                : fmt::format("{:.{}f}", value, decimals);
}

Track track_of(const ScorePanel& panel) {
  Track t;
  double widest = 0;
  for (const Score& s : panel.scores) widest = std::max(widest, text_width(s.model, kType) * 1.06);
  t.left = std::min(widest, 110.0) + 14;
  t.right = kWidth - 56;
  t.low = INFINITY;
  t.high = -INFINITY;
  for (const Score& s : panel.scores) {
    t.low = std::min(t.low, s.low);
    t.high = std::max(t.high, s.high);
  }
  const double room = t.high > t.low ? 0.06 * (t.high - t.low) : 0.5;
  const bool from_zero = t.low >= 0 && t.low < 0.25 * t.high;
  t.low = from_zero ? 0 : t.low - room;
  t.high += room;
  return t;
}

void draw_axis(const ScorePanel& panel, const Track& t, double bottom, Svg& svg) {
  const std::vector<double> ticks = ticks_of(t.low, t.high, 3);
  const int decimals = decimals_of(ticks.size() > 1 ? ticks[1] - ticks[0] : 1);
  for (const double tick : ticks) {
    svg.line(t.x(tick), kTop - 4, t.x(tick), bottom, "g");
    svg.text(t.x(tick), bottom + 13, "t m c", axis_text(tick, panel.unit, decimals));
  }
}

void draw_score(const ScorePanel& panel, const Score& s, const Track& t, double y, Svg& svg) {
  const bool merged = s.role == Role::kMerged;
  const int decimals = panel.unit == Unit::kPercent ? 3 : 4;
  const std::string title = fmt::format(
      "{}: {}, 95 % interval {} to {}", s.model, axis_text(s.value, panel.unit, decimals),
      axis_text(s.low, panel.unit, decimals), axis_text(s.high, panel.unit, decimals));
  svg.text(0, y + 4, merged ? "t b a" : "t", shortened(s.model, kType, t.left - 12));
  svg.line(t.x(s.low), y, t.x(s.high), y, merged ? "al" : "pl");
  svg.circle(t.x(s.value), y, 4.5, merged ? "a" : "p", title);
  svg.text(kWidth, y + 4, merged ? "t b a r" : "t r", axis_text(s.value, panel.unit, decimals));
}

}  // namespace

std::vector<double> ticks_of(double low, double high, int count) {
  if (!(high > low)) return {low};
  const double rough = (high - low) / count, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double step = power * (rough / power < 1.5   ? 1
                               : rough / power < 3.5 ? 2
                               : rough / power < 7.5 ? 5
                                                     : 10);
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high * (1 + 1e-12); ++i)
    ticks.push_back(i * step + 0.0);  // no -0
  return ticks;
}

std::string dot_plot(const ScorePanel& panel, Medium medium) {
  const Track t = track_of(panel);
  const double bottom = kTop + kRow * static_cast<double>(panel.scores.size());
  Svg svg(kWidth, bottom + 18,
          fmt::format("{}, {}: scores with 95 % intervals", panel.task, panel.metric));
  svg.text(0, 13.5, "t b", shortened(panel.task, kType, kWidth));
  svg.text(0, 28.5, "t m",
           fmt::format("{}, {} items, {} is better", panel.metric, panel.items,
                       panel.higher_is_better ? "more" : "less"));
  draw_axis(panel, t, bottom, svg);
  for (size_t i = 0; i < panel.scores.size(); ++i)
    draw_score(panel, panel.scores[i], t, kTop + kRow * (static_cast<double>(i) + 0.5) - 2, svg);
  return svg.finish(medium);
}

}  // namespace lewis
