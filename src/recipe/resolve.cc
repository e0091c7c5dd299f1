// The value of a parameter for a tensor, by mergekit's rules (docs/mergekit.md).
#include <fmt/format.h>
#include <algorithm>

#include "recipe/recipe.h"

namespace lewis {
namespace {

double interpolate(const Gradient& values, double t) {
  const double place = t * static_cast<double>(values.size() - 1);
  const auto lower = static_cast<size_t>(place);
  const size_t upper = std::min(values.size() - 1, lower + 1);
  const double share = place - static_cast<double>(lower);
  return (1 - share) * values[lower] + share * values[upper];
}

double value_at(const SettingValue& value, double t) {
  if (const double* number = std::get_if<double>(&value)) return *number;
  return interpolate(std::get<Gradient>(value), t);
}

const Condition* first_match(const std::vector<Condition>& conditions, std::string_view name) {
  const auto it = std::find_if(conditions.begin(), conditions.end(), [&](const Condition& c) {
    return name.find(c.filter) != std::string_view::npos;
  });
  return it == conditions.end() ? nullptr : &*it;
}

}  // namespace

std::optional<double> evaluate(const ParameterSetting& setting, std::string_view tensor_name,
                               double t) {
  if (const double* number = std::get_if<double>(&setting)) return *number;
  if (const Gradient* gradient = std::get_if<Gradient>(&setting)) return interpolate(*gradient, t);
  const Condition* match = first_match(std::get<std::vector<Condition>>(setting), tensor_name);
  return match ? std::optional(value_at(match->value, t)) : std::nullopt;
}

std::optional<FoundValue> find_value(const std::vector<ParameterLevel>& levels,
                                     std::string_view parameter, std::string_view tensor_name,
                                     double t) {
  for (size_t level = 0; level < levels.size(); ++level) {
    const auto it = levels[level].parameters->find(std::string(parameter));
    if (it == levels[level].parameters->end()) continue;
    const auto value = evaluate(it->second, tensor_name, t);
    if (!value) continue;  // no condition matches: the next level decides
    const auto* conditions = std::get_if<std::vector<Condition>>(&it->second);
    return FoundValue{*value, level, conditions ? first_match(*conditions, tensor_name) : nullptr};
  }
  return std::nullopt;
}

std::vector<ParameterLevel> parameter_levels(const Recipe& recipe, std::optional<size_t> model) {
  std::vector<ParameterLevel> levels;
  if (model) {
    levels.push_back(
        {&recipe.models[*model].parameters, fmt::format("models[{}].parameters", *model)});
  }
  levels.push_back({&recipe.module_parameters, "the module's parameters"});
  levels.push_back({&recipe.parameters, "parameters"});
  return levels;
}

std::vector<ParameterLevel> slice_levels(const Recipe& recipe, size_t slice,
                                         std::optional<size_t> source) {
  const OutputSlice& s = recipe.slices[slice];
  std::vector<ParameterLevel> levels;
  if (source) {
    levels.push_back({&s.sources[*source].parameters,
                      fmt::format("slices[{}].sources[{}].parameters", slice, *source)});
  }
  levels.push_back({&s.parameters, fmt::format("slices[{}].parameters", slice)});
  levels.push_back({&recipe.module_parameters, "the module's parameters"});
  levels.push_back({&recipe.parameters, "parameters"});
  return levels;
}

std::optional<double> resolve(const Recipe& recipe, std::string_view parameter,
                              std::optional<size_t> model, std::string_view tensor_name, double t) {
  const auto found = find_value(parameter_levels(recipe, model), parameter, tensor_name, t);
  return found ? std::optional(found->value) : std::nullopt;
}

}  // namespace lewis
