// `parameters:` of a recipe, a model, a slice or a module, by the table of recipe/parameters.h.
#include <algorithm>
#include <cmath>

#include "recipe/parse/recipe_reader.h"

namespace lewis {
namespace {

using Kind = YamlNode::Kind;

}  // namespace

// mergekit takes a flag for a number and a number for a flag.
double RecipeReader::parameter_number(const YamlNode& node, const ParameterRow& row) const {
  if (const auto value = node.boolean()) return *value ? 1 : 0;
  if (row.kind == ParameterKind::kFlag && !node.number()) return flag(node, row.name) ? 1 : 0;
  return number(node, row.name);
}

double RecipeReader::parameter_value(const YamlNode& node, const ParameterRow& row) const {
  const double value = parameter_number(node, row);
  const bool is_whole = row.kind != ParameterKind::kWhole || value == std::floor(value);
  if (value >= row.least && value <= row.most && is_whole) return value;
  const bool bounded = std::isfinite(row.least) && std::isfinite(row.most);
  if (row.kind == ParameterKind::kNumber && bounded) {
    fail(node.line,
         fmt::format("{} {} is outside [{}, {}]", row.name, node.scalar, row.least, row.most));
  }
  fail(node.line, fmt::format("{} must be {}, found {}", row.name, range_text(row), shown(node)));
}

SettingValue RecipeReader::setting_value(const YamlNode& node, const ParameterRow& row) const {
  if (node.kind != Kind::kList) return parameter_value(node, row);
  if (node.items.empty()) fail(node.line, fmt::format("{} is an empty list", row.name));
  Gradient gradient;
  for (const YamlNode& item : node.items) gradient.push_back(parameter_value(item, row));
  return gradient;
}

Condition RecipeReader::condition_of(const YamlNode& node, const ParameterRow& row) const {
  check_keys(node, {"filter", "value"}, fmt::format("a condition of {}", row.name));
  Condition c;
  if (const YamlNode* filter = given(node, "filter")) c.filter = text(*filter, "filter");
  if (c.filter == "*") c.filter.clear();
  c.value = setting_value(need(node, "value"), row);
  return c;
}

ParameterSetting RecipeReader::setting_of(const YamlNode& node, const ParameterRow& row) const {
  if (node.kind == Kind::kMap) return std::vector<Condition>{condition_of(node, row)};
  const auto is_map = [](const YamlNode& item) { return item.kind == Kind::kMap; };
  if (node.kind != Kind::kList || std::ranges::none_of(node.items, is_map)) {
    return std::visit([](auto v) { return ParameterSetting(v); }, setting_value(node, row));
  }
  std::vector<Condition> conditions;
  for (const YamlNode& item : node.items) conditions.push_back(condition_of(item, row));
  return conditions;
}

Parameters RecipeReader::parameters_of(const YamlNode& map, ParameterScope scope) const {
  check_keys(map, parameter_names(), "parameters");
  Parameters parameters;
  for (const auto& [key, value] : map.entries) {
    const ParameterRow* found = find_parameter(key.scalar);
    if (!found) continue;  // passed over
    const ParameterRow& row = *found;
    if (scope == ParameterScope::kModel && row.scope == ParameterScope::kWhole) {
      const std::string whole = fmt::format("'{}' is a parameter of the whole merge", key.scalar);
      if (!passes_over()) fail(key.line, whole + ": write it under the recipe's own parameters");
      pass_over(key.line, whole + ", not of a model,");
      continue;
    }
    if (!value.is_null()) parameters[key.scalar] = setting_of(value, row);
  }
  return parameters;
}

Parameters RecipeReader::parameters_in(const YamlNode& map, ParameterScope scope) const {
  const YamlNode* parameters = given(map, "parameters");
  return parameters ? parameters_of(*parameters, scope) : Parameters();
}

}  // namespace lewis
