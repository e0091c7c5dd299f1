// A first recipe with comments, for somebody who has models and has never written one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace lewis {

struct FirstRecipe {
  std::string base;                 // "": none
  std::vector<std::string> models;  // fine-tuned from it
  std::string method = "ties";
  // Texts that show what each model can do, in the order of the models, or none at all; formats of
  // them, or none: by what lies in the files.
  std::vector<std::string> data, formats;
};

// The recipe as YAML, complete and with comments that say what each line is for. `file`: where it
// will be, for the commands that the comments name. Throws Error(kUsage) for a method that is not
// known, for more or fewer models than it takes, for a base that it needs, for texts that do not
// belong to models one to one, and for a model that is named twice.
std::string first_recipe(const FirstRecipe& recipe, const std::filesystem::path& file);

// True when the method takes the models' common base apart from them.
bool needs_base(std::string_view method);

}  // namespace lewis
