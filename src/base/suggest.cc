#include "base/suggest.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace lewis {

size_t edit_distance(std::string_view a, std::string_view b) {
  // Distances of a[0, i) to every b[0, j), of the last three i.
  std::vector<size_t> row(b.size() + 1), before(b.size() + 1), twice_before(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(twice_before, before);
    std::swap(before, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = before[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replace, before[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], twice_before[j - 2] + 1);
    }
  }
  return row.back();
}

std::string_view nearest_name(std::string_view name, std::span<const std::string_view> known) {
  const auto nearest = std::min_element(known.begin(), known.end(), [&](auto a, auto b) {
    return edit_distance(name, a) < edit_distance(name, b);
  });
  return nearest == known.end() ? std::string_view() : *nearest;
}

std::string unknown_name(std::string_view name, std::span<const std::string_view> known) {
  return fmt::format("'{}' is not known; did you mean '{}'? (known: {})", name,
                     nearest_name(name, known), fmt::join(known, ", "));
}

}  // namespace lewis
