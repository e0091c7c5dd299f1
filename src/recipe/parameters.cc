#include "recipe/parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lewis {

static_assert(std::ranges::is_sorted(kParameterTable, {}, &ParameterRow::name));

const ParameterRow* find_parameter(std::string_view name) {
  const auto row = std::ranges::find(kParameterTable, name, &ParameterRow::name);
  return row == kParameterTable.end() ? nullptr : &*row;
}

std::vector<std::string_view> parameter_names() {
  std::vector<std::string_view> names;
  for (const ParameterRow& row : kParameterTable) names.push_back(row.name);
  return names;
}

std::string range_text(const ParameterRow& row) {
  if (row.kind == ParameterKind::kFlag) return "true or false";
  const bool whole = row.kind == ParameterKind::kWhole;
  const std::string_view what = whole ? "a whole number " : "";
  const bool open_below = std::isinf(row.least), open_above = std::isinf(row.most);
  if (open_below && open_above) return whole ? "a whole number" : "any number";
  if (open_above) return fmt::format("{}at least {}", what, row.least);
  if (open_below) return fmt::format("{}at most {}", what, row.most);
  return fmt::format("{}from {} to {}", what, row.least, row.most);
}

}  // namespace lewis
