#include "recipe/outputs.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "recipe/print.h"

namespace lewis {
bool normalizes(const Recipe& recipe) {
  const auto found = recipe.parameters.find("normalize");
  const double* value =
      found == recipe.parameters.end() ? nullptr : std::get_if<double>(&found->second);
  return !value || *value != 0;
}

Recipe recipe_of_output(const Recipe& recipe, size_t output) {
  Recipe one = recipe;
  const RecipeOutput& of = recipe.outputs.at(output);
  one.outputs.clear();
  for (size_t m = 0; m < one.models.size(); ++m) {
    if (one.models[m].listed) one.models[m].parameters["weight"] = of.weights[m];
  }
  one.text = to_yaml(one, false);
  return one;
}

std::vector<OutputShare> shares_of(const Recipe& recipe, size_t output) {
  const RecipeOutput& of = recipe.outputs.at(output);
  const double sum =
      normalizes(recipe) ? std::accumulate(of.weights.begin(), of.weights.end(), 0.0) : 1;
  std::vector<OutputShare> shares;
  for (size_t m = 0; m < recipe.models.size(); ++m) {
    if (of.weights[m] != 0) shares.push_back({recipe.models[m].model, of.weights[m] / sum});
  }
  return shares;
}

std::string describe_output(const Recipe& recipe, size_t output) {
  const std::vector<OutputShare> shares = shares_of(recipe, output);
  const auto listed = std::ranges::count_if(recipe.models, &RecipeModel::listed);
  const auto share = [](const OutputShare& s) {
    return fmt::format("{:.4g} of {}", s.share, s.model);
  };
  std::string text =
      fmt::format("{}; {} of {} models", recipe.outputs[output].origin, shares.size(), listed);
  if (shares.empty()) return text;
  text += ": " + share(shares[0]);
  if (shares.size() > 2) text += ", ...";
  return shares.size() > 1 ? text + ", " + share(shares.back()) : text;
}

void refuse_outputs(const Recipe& recipe, std::string_view what) {
  if (recipe.outputs.empty()) return;
  throw usage_error(
      "{}:{}: outputs makes {} models, and {} needs a recipe of one; `lewis merge` "
      "writes them, each with the recipe that makes it alone",
      recipe.file.empty() ? "recipe" : recipe.file.string(), recipe.outputs[0].line,
      recipe.outputs.size(), what);
}

}  // namespace lewis
