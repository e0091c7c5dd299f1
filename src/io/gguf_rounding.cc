#include "io/gguf_rounding.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace lewis {
namespace {

// How the numbers of a group share a grid.
enum class Grid {
  kMagnitude,  // step = largest magnitude / levels
  kRange,      // step = (largest - smallest) / levels; both are 0 or beyond it
  kFloat4,     // E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 times a power of two
};
struct Rounding {
  GgufType type;
  size_t group;
  Grid grid;
  double levels;
};
// IQ4_NL has 16 levels from -127 to 113, denser around 0, where most numbers are: 11 apart there.
constexpr std::array<Rounding, 12> kRoundings = {
    {{GgufType::kQ8_0, 32, Grid::kMagnitude, 127},
     {GgufType::kQ4_0, 32, Grid::kMagnitude, 8},
     {GgufType::kQ5_0, 32, Grid::kMagnitude, 16},
     {GgufType::kQ4_1, 32, Grid::kRange, 15},
     {GgufType::kQ5_1, 32, Grid::kRange, 31},
     {GgufType::kQ2_K, 16, Grid::kRange, 3},
     {GgufType::kQ3_K, 16, Grid::kMagnitude, 4},
     {GgufType::kQ4_K, 32, Grid::kRange, 15},
     {GgufType::kQ5_K, 32, Grid::kRange, 31},
     {GgufType::kQ6_K, 16, Grid::kMagnitude, 32},
     {GgufType::kIQ4_NL, 32, Grid::kMagnitude, 127.0 / 12},
     {GgufType::kMXFP4, 32, Grid::kFloat4, 0}}};

double step_squares_of_float4(std::span<const float> group, double largest) {
  const double scale = std::exp2(std::floor(std::log2(largest)) - 2);
  double sum = 0;
  for (const float value : group) {
    const double magnitude = std::abs(value) / scale;
    const double step = scale * (magnitude < 2 ? 0.5 : magnitude < 4 ? 1 : 2);
    sum += step * step;
  }
  return sum;
}

double step_squares(const Rounding& r, std::span<const float> group) {
  const auto [low, high] = std::ranges::minmax(group);
  const double largest = std::max(std::abs(double{low}), std::abs(double{high}));
  if (largest == 0 || !std::isfinite(largest)) return 0;
  if (r.grid == Grid::kFloat4) return step_squares_of_float4(group, largest);
  const double range = r.grid == Grid::kMagnitude ? largest : double{high} - double{low};
  const double step = range / r.levels;
  return step * step * static_cast<double>(group.size());
}

}  // namespace

double rounding_energy(GgufType type, std::span<const float> values) {
  const auto found = std::ranges::find(kRoundings, type, &Rounding::type);
  if (found == kRoundings.end()) return 0;
  double sum = 0;
  for (size_t at = 0; at < values.size(); at += found->group)
    sum += step_squares(*found, values.subspan(at, std::min(found->group, values.size() - at)));
  return sum / 12;
}

}  // namespace lewis
