// The value of a parameter for a tensor (mergekit's rules: spec, sections 1.4 to 1.6).
#include <algorithm>
#include <charconv>

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

}  // namespace

std::optional<int64_t> tensor_layer(std::string_view name) {
  // The first part of the name that is a number: model.layers.11.mlp.experts.3 is in layer 11.
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(name.data() + begin, name.data() + end, number);
    if (error == std::errc() && stop == name.data() + end && begin > 0 && number >= 0)
      return number;
    begin = end + 1;
  }
  return std::nullopt;
}

double tensor_depth(std::string_view name, int64_t layers) {
  const auto layer = tensor_layer(name);
  if (!layer) return 0;
  return layers > 1 ? std::min(1.0, static_cast<double>(*layer) / static_cast<double>(layers - 1))
                    : 1;
}

std::optional<double> evaluate(const ParameterSetting& setting, std::string_view tensor_name,
                               double t) {
  if (const double* number = std::get_if<double>(&setting)) return *number;
  if (const Gradient* gradient = std::get_if<Gradient>(&setting)) return interpolate(*gradient, t);
  for (const Condition& c : std::get<std::vector<Condition>>(setting)) {
    if (tensor_name.find(c.filter) != std::string_view::npos) return value_at(c.value, t);
  }
  return std::nullopt;
}

std::optional<double> resolve(const Recipe& recipe, std::string_view parameter,
                              std::optional<size_t> model, std::string_view tensor_name, double t) {
  const auto look = [&](const Parameters& parameters) -> std::optional<double> {
    const auto it = parameters.find(std::string(parameter));
    return it == parameters.end() ? std::nullopt : evaluate(it->second, tensor_name, t);
  };
  if (model) {
    if (const auto value = look(recipe.models[*model].parameters)) return value;
  }
  return look(recipe.parameters);
}

}  // namespace lewis
