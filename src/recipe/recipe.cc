#include "recipe/recipe.h"

#include <algorithm>

namespace lewis {

namespace fs = std::filesystem;

bool is_same_model(const RecipeModel& a, const RecipeModel& b) {
  const auto same_folder = [](const fs::path& x, const fs::path& y) {
    return x.empty() || y.empty() ? x.empty() == y.empty() : fs::equivalent(x, y);
  };
  const bool in_memory = !a.stage && a.folder.empty();
  return a.stage == b.stage && same_folder(a.folder, b.folder) &&
         same_folder(a.adapter, b.adapter) && (!in_memory || a.model == b.model);
}

std::vector<fs::path> source_folders(const Recipe& recipe) {
  std::vector<fs::path> folders;
  for (const RecipeModel& m : recipe.models) {
    if (!m.folder.empty()) folders.push_back(m.folder);
    if (!m.adapter.empty()) folders.push_back(m.adapter);
    if (m.stage) std::ranges::copy(source_folders(*m.stage), std::back_inserter(folders));
  }
  return folders;
}

}  // namespace lewis
