#include <fmt/format.h>

#include <algorithm>

#include "base/human.h"
#include "report/charts.h"

namespace lewis {
namespace {

constexpr double kWidth = 460, kType = 11;

std::string seconds_text(double seconds) {
  return seconds < 9.95 ? fmt::format("{:.2f} s", seconds) : human_seconds(seconds);
}

// The horizontal range of a chart's time axis.
struct TimeAxis {
  double left = 0, right = 0, top = 0, bottom = 0;
};

void draw_seconds(double seconds, const TimeAxis& axis, Svg& svg) {
  for (const double tick : ticks_of(0, seconds, 3)) {
    const double x = axis.left + (axis.right - axis.left) * tick / seconds;
    svg.line(x, axis.top, x, axis.bottom, "g");
    const bool at_end = x > kWidth - 14;
    svg.text(at_end ? kWidth : x, axis.bottom + 13,
             x < 8    ? "t m"
             : at_end ? "t m r"
                      : "t m c",
             fmt::format("{:.3g} s", tick));
  }
}

// The points of the memory line: the samples, and the peak if no sample reached it.
std::vector<MemorySample> samples_of(const RunChart& run) {
  std::vector<MemorySample> samples = run.memory;
  if (samples.empty()) samples = {{0, run.peak_memory}};
  samples.push_back({run.seconds, samples.back().bytes});
  return samples;
}

}  // namespace

std::string time_line(const RunChart& run, Medium medium) {
  constexpr double kTop = 4, kRow = 19, kLeft = 196, kRight = kWidth - 52;
  const double bottom = kTop + kRow * static_cast<double>(run.phases.size());
  const double seconds = std::max(run.seconds, 1e-9);
  Svg svg(kWidth, bottom + 18, fmt::format("Phases of the run, {} in all", seconds_text(seconds)));
  draw_seconds(seconds, {kLeft, kRight, kTop, bottom}, svg);
  for (size_t i = 0; i < run.phases.size(); ++i) {
    const Phase& p = run.phases[i];
    const double y = kTop + kRow * (static_cast<double>(i) + 0.5);
    const double scale = (kRight - kLeft) / seconds;
    const std::string time = seconds_text(p.end - p.begin);
    svg.text(0, y + 4, "t", shortened(p.name, kType, kLeft - 8));
    svg.text(kWidth, y + 4, "t r", time);
    svg.rect(
        kLeft + scale * p.begin, y - 5, std::max(1.5, scale * (p.end - p.begin)), 10, "p",
        fmt::format("{}: {} to {}, {}", p.name, seconds_text(p.begin), seconds_text(p.end), time));
  }
  return svg.finish(medium);
}

std::string memory_chart(const RunChart& run, Medium medium) {
  constexpr double kTop = 22, kBottom = 132;
  const double seconds = std::max(run.seconds, 1e-9);
  const double most =
      1.08 * static_cast<double>(std::max<uint64_t>({run.peak_memory, run.memory_budget, 1}));
  const auto y = [&](uint64_t bytes) {
    return kBottom - (kBottom - kTop) * static_cast<double>(bytes) / most;
  };
  Svg svg(kWidth, kBottom + 18,
          fmt::format("Memory over time, at most {}", human_bytes(run.peak_memory)));
  draw_seconds(seconds, {0, kWidth, kTop, kBottom}, svg);
  std::string path;
  for (const MemorySample& s : samples_of(run)) {
    path += fmt::format("{}{} {}", path.empty() ? "M" : "L",
                        number(kWidth * std::min(1.0, s.second / seconds)), number(y(s.bytes)));
  }
  const double first = kWidth * std::min(1.0, samples_of(run).front().second / seconds);
  svg.raw(fmt::format("<path class=\"ar\" d=\"{}L{} {}L{} {}z\"/>", path, number(kWidth),
                      number(kBottom), number(first), number(kBottom)));
  svg.raw(fmt::format("<path class=\"pl\" d=\"{}\"/>", path));
  svg.line(0, y(run.peak_memory), kWidth, y(run.peak_memory), "g");
  svg.text(kWidth, y(run.peak_memory) - 5, "t r", "peak " + human_bytes(run.peak_memory));
  if (run.memory_budget > 0) {
    svg.line(0, y(run.memory_budget), kWidth, y(run.memory_budget), "dl");
    svg.text(0, y(run.memory_budget) - 5, "t a", "budget " + human_bytes(run.memory_budget));
  }
  return svg.finish(medium);
}

}  // namespace lewis
