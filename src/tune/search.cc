#include "tune/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "base/error.h"

namespace lewis {
namespace {

constexpr double kGolden = 0.6180339887498949;  // (sqrt(5) - 1) / 2
constexpr double kNarrow = 0.005;               // of a range: not worth an evaluation

// The number at `place` of the way from low to high.
double number_at(const Axis& a, double place) {
  const double value =
      a.log ? a.low * std::pow(a.high / a.low, place) : a.low + (a.high - a.low) * place;
  const double rounded = std::strtod(fmt::format("{:.4g}", value).c_str(), nullptr);
  return std::clamp(rounded, a.low, a.high);
}

double place_of(const Axis& a, double value) {
  return a.log ? std::log(value / a.low) / std::log(a.high / a.low)
               : (value - a.low) / (a.high - a.low);
}

class Search {
 public:
  Search(std::span<const Axis> axes, size_t evaluations, const Objective& objective,
         const KeepOn& keep_on)
      : axes_(axes), most_(evaluations), objective_(objective), keep_on_(keep_on) {}

  SearchResult run() {
    std::vector<double> start;
    for (const Axis& a : axes_) start.push_back(a.start);
    if (!std::isfinite(value_of(start)))
      throw usage_error("the search's starting point is no valid recipe");
    best_.start_value = best_.value;
    const size_t steps =
        axes_.size() == 1 ? most_ : std::clamp<size_t>((most_ - 1) / (2 * axes_.size()), 3, 7);
    for (double width = 1; width > 0.02 && left(); width /= 2) {
      const std::vector<double> from = best_.point;
      for (size_t axis = 0; axis < axes_.size() && left(); ++axis) {
        if (!axes_[axis].whole) {
          line(axis, width, steps);
        } else if (width == 1) {
          try_all(axis);
        }
      }
      if (left() && keep_on_ && !keep_on_(from, best_.point)) break;
    }
    return best_;
  }

 private:
  bool left() const { return best_.evaluations < most_; }

  double value_of(const std::vector<double>& point) {
    const auto known = known_.find(point);
    if (known != known_.end()) return known->second;
    const auto found = objective_(point);
    if (found) ++best_.evaluations;
    const double value = found.value_or(std::numeric_limits<double>::infinity());
    known_[point] = value;
    if (value < best_.value) {
      best_.value = value;
      best_.point = point;
    }
    return value;
  }

  void try_all(size_t axis) {
    std::vector<double> point = best_.point;
    for (double at = axes_[axis].low; at <= axes_[axis].high && left(); ++at) {
      point[axis] = at;
      value_of(point);
    }
  }

  // Golden section along one axis, in a bracket of that share of the range around the best point.
  void line(size_t axis, double width, size_t steps) {
    const std::vector<double> from = best_.point;
    const auto value_at = [&](double place) {
      std::vector<double> point = from;
      point[axis] = number_at(axes_[axis], place);
      return value_of(point);
    };
    const double centre = place_of(axes_[axis], from[axis]);
    double a = width == 1 ? 0 : std::max(0.0, centre - width / 2);
    double b = width == 1 ? 1 : std::min(1.0, centre + width / 2);
    double c = b - kGolden * (b - a), d = a + kGolden * (b - a);
    double at_c = value_at(c), at_d = left() ? value_at(d) : at_c;
    for (size_t step = 2; step < steps && left() && b - a > kNarrow; ++step) {
      if (at_c <= at_d) {
        b = d, d = c, at_d = at_c;
        c = b - kGolden * (b - a), at_c = value_at(c);
      } else {
        a = c, c = d, at_c = at_d;
        d = a + kGolden * (b - a), at_d = value_at(d);
      }
    }
  }

  std::span<const Axis> axes_;
  size_t most_;
  const Objective& objective_;
  const KeepOn& keep_on_;
  std::map<std::vector<double>, double> known_;
  SearchResult best_;
};

}  // namespace

SearchResult coordinate_search(std::span<const Axis> axes, size_t evaluations,
                               const Objective& objective, const KeepOn& keep_on) {
  return Search(axes, std::max<size_t>(1, evaluations), objective, keep_on).run();
}

}  // namespace lewis
