#include "report/palette.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

namespace lewis {
namespace {

// The colours at every tenth of viridis; those between are interpolated linearly.
constexpr std::array<Color, 11> kViridis = {{{68, 1, 84},
                                             {72, 36, 117},
                                             {65, 68, 135},
                                             {53, 95, 141},
                                             {42, 120, 142},
                                             {33, 145, 140},
                                             {34, 168, 132},
                                             {68, 191, 112},
                                             {122, 209, 81},
                                             {189, 223, 38},
                                             {253, 231, 37}}};

constexpr std::array<Color, 7> kBlueOrange = {{{33, 102, 172},
                                               {103, 169, 207},
                                               {209, 229, 240},
                                               {243, 243, 241},
                                               {254, 224, 182},
                                               {241, 163, 64},
                                               {179, 88, 6}}};

Color interpolate(std::span<const Color> stops, double share) {
  const double clipped = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0.0;
  const double at = clipped * static_cast<double>(stops.size() - 1);
  const size_t i = std::min(static_cast<size_t>(at), stops.size() - 2);
  const double f = at - static_cast<double>(i);
  const auto mix = [f](int a, int b) { return static_cast<int>(std::lround(a + f * (b - a))); };
  const Color &a = stops[i], &b = stops[i + 1];
  return {mix(a.red, b.red), mix(a.green, b.green), mix(a.blue, b.blue)};
}

// The relative luminance of a colour (WCAG 2).
double luminance(const Color& c) {
  const auto linear = [](int value) {
    const double v = value / 255.0;
    return v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(c.red) + 0.7152 * linear(c.green) + 0.0722 * linear(c.blue);
}

}  // namespace

std::string Color::hex() const { return fmt::format("#{:02x}{:02x}{:02x}", red, green, blue); }

bool Color::wants_dark_text() const {
  const double y = luminance(*this);
  return (y + 0.05) / 0.05 > 1.05 / (y + 0.05);
}

Color sequential(double share) { return interpolate(kViridis, share); }
Color diverging(double share) { return interpolate(kBlueOrange, share); }

}  // namespace lewis
