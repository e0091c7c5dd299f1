// include/lewis/recipe.h.
#include <lewis/recipe.h>

#include "recipe/recipe.h"

namespace lewis {

RecipePtr open_recipe(const std::filesystem::path& file, UnknownKeys unknown) {
  return std::make_shared<const Recipe>(read_recipe(file, unknown));
}

RecipePtr make_recipe(std::string_view text, const std::filesystem::path& file,
                      const std::vector<std::string>& in_memory, UnknownKeys unknown) {
  return std::make_shared<const Recipe>(parse_recipe(text, file, in_memory, unknown));
}

std::string mergekit_yaml(const Recipe& recipe) { return to_yaml(recipe, true); }

std::string yaml(const Recipe& recipe) { return to_yaml(recipe, false); }

std::vector<std::string> model_names(const Recipe& recipe) {
  std::vector<std::string> names;
  for (const RecipeModel& model : recipe.models) names.push_back(model.model);
  return names;
}

}  // namespace lewis
