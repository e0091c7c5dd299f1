// Inside recipe/: the step from YAML to the Recipe.
#pragma once

#include "recipe/recipe.h"
#include "yaml/yaml.h"

namespace lewis {

// The documents as a recipe; as parse_recipe.
Recipe recipe_of(std::vector<YamlNode> documents, const std::filesystem::path& file,
                 std::vector<std::string> in_memory = {},
                 UnknownKeys unknown = UnknownKeys::kRefused);

// A value that is to be found: a map whose key `search` or `choose` is a list.
bool is_open(const YamlNode& node);

}  // namespace lewis
