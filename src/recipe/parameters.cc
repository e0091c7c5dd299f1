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
  const std::string what = row.kind == ParameterKind::kWhole ? "a whole number" : "";
  const std::string space = what.empty() ? "" : " ";
  const bool below = std::isinf(row.least), above = std::isinf(row.most);
  if (below && above) return what.empty() ? "any number" : what;
  if (above) return fmt::format("{}{}at least {}", what, space, row.least);
  if (below) return fmt::format("{}{}at most {}", what, space, row.most);
  return fmt::format("{}{}{} to {}", what, space, row.least, row.most);
}

}  // namespace lewis
