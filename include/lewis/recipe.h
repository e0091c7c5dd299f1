// Recipes: what to merge and how (mergekit's YAML with a section `lewis:`, see docs/mergekit.md).
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <lewis/export.h>

namespace lewis {

// A recipe that was parsed and found valid. Its contents are not part of this interface.
struct Recipe;
using RecipePtr = std::shared_ptr<const Recipe>;

// What becomes of keys that neither mergekit nor lewis knows: an error, or a note beside the result
// (mergekit ignores them). Keys of the section `lewis:` are always an error.
enum class UnknownKeys { kRefused, kNoted };

// Both throw Error(kUsage) with a message that begins with "FILE:LINE:" and names the key: YAML
// that is none, an unknown key, a value that does not fit, a model or data that does not exist.
// Relative paths are resolved against the working directory first, then against the recipe's
// folder; models also in the local cache of the Hugging Face hub.
LEWIS_API RecipePtr open_recipe(const std::filesystem::path& file,
                                UnknownKeys unknown = UnknownKeys::kRefused);
// `file`: the recipe's name in messages, and the place that relative paths start from; it need not
// exist. `in_memory`: names of models that merge_tensors gets as tensors.
LEWIS_API RecipePtr make_recipe(std::string_view yaml, const std::filesystem::path& file = {},
                                const std::vector<std::string>& in_memory = {},
                                UnknownKeys unknown = UnknownKeys::kRefused);

// The recipe as YAML that mergekit reads, without the section `lewis:`.
LEWIS_API std::string mergekit_yaml(const Recipe& recipe);
// The same with the section `lewis:`.
LEWIS_API std::string yaml(const Recipe& recipe);

// The models as the recipe names them, in its order. The base is among them.
LEWIS_API std::vector<std::string> model_names(const Recipe& recipe);

}  // namespace lewis
