// The models that a recipe names, before any of them is looked for.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

struct NamedModel {
  std::string name;  // a folder or an id: "PATH[@REVISION]", without an adapter
  int line = 0;
  bool only_tokenizer = false;  // its weights are not merged
};

// Models, adapters and sources of tokenizers, as they are written; each name once. Names of
// documents and what is a folder, here or beside the recipe, are left out. `file`: see
// parse_recipe. Throws Error(kUsage) for YAML that is none; anything else is left for parse_recipe
// to refuse.
std::vector<NamedModel> named_models(std::string_view text, const std::filesystem::path& file);

}  // namespace lewis
