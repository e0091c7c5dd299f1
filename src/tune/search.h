// The smallest value of a function that is dear to evaluate, along one number after the other.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace lewis {

// The range of one number. `log`: equal ratios are equal steps. `whole`: only whole numbers count,
// and their order means nothing.
struct Axis {
  double low = 0, high = 1, start = 0.5;
  bool log = false, whole = false;
};

// nullopt: the numbers do not fit together.
using Objective = std::function<std::optional<double>(std::span<const double> point)>;
// Whether to go on after a round over all axes that led from one best point to another.
using KeepOn = std::function<bool(std::span<const double> from, std::span<const double> to)>;

struct SearchResult {
  std::vector<double> point;
  double value = std::numeric_limits<double>::infinity();
  double start_value = std::numeric_limits<double>::infinity();
  size_t evaluations = 0;
};

// Begins at the axes' starts. Golden section (Kiefer, 1953) along each axis in turn, the others
// held at the best point so far; where there are several axes, again around that point in ever
// smaller brackets, until `evaluations` (at least 1) are done, the brackets are 2 % of the range,
// or `keep_on`, if it is given, ends the search. Of an axis of whole numbers all others are tried,
// in the first round. The best point ever seen is the result: the function need not have one
// valley. Numbers are rounded to four digits; no point is asked for twice. Error(kUsage) where the
// start is nullopt.
SearchResult coordinate_search(std::span<const Axis> axes, size_t evaluations,
                               const Objective& objective, const KeepOn& keep_on = {});

}  // namespace lewis
