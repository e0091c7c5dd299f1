// `models: {glob: PATTERN}`: folders that a pattern matches, in the order of their numbers.
#include <glob.h>

#include <algorithm>
#include <memory>

#include "base/natural_order.h"
#include "io/gguf.h"
#include "recipe/parse/recipe_reader.h"

namespace lewis {

namespace fs = std::filesystem;

namespace {

// The folders that match, in natural order; GGUF files where the pattern ends as they do. Other
// files are no models.
std::vector<std::string> matching_folders(const std::string& pattern) {
  glob_t found{};
  const int error = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  const std::unique_ptr<glob_t, decltype(&globfree)> guard(&found, globfree);
  const bool files = pattern.ends_with(".gguf");
  std::vector<std::string> folders;
  for (size_t i = 0; error == 0 && i < found.gl_pathc; ++i) {
    std::string path = found.gl_pathv[i];
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    std::error_code ignored;
    if (fs::is_directory(path, ignored) || (files && is_gguf_path(path)))
      folders.push_back(std::move(path));
  }
  std::ranges::sort(folders, comes_before);
  return folders;
}

}  // namespace

Window RecipeReader::window_of(const YamlNode& map) const {
  Window window;
  const YamlNode *first = given(map, "first"), *last = given(map, "last");
  if (first && last) fail(last->line, "'first' and 'last' exclude each other");
  if (first) window.first = count(*first, "first", 1);
  if (last) window.last = count(*last, "last", 1);
  if (const YamlNode* every = given(map, "every")) window.every = count(*every, "every", 1);
  return window;
}

// Like any path, the pattern is tried from the working directory, then beside the recipe.
void RecipeReader::read_glob(const YamlNode& map, Recipe& r) const {
  check_keys(map, {"glob", "first", "last", "every"}, "models with a pattern");
  const YamlNode& node = need(map, "glob");
  const std::string pattern = text(node, "glob");
  std::vector<std::string> found = matching_folders(pattern);
  const fs::path beside = file_.parent_path();
  std::string above;  // what `found` has before what the recipe's folder hides
  if (found.empty() && !beside.empty() && !pattern.starts_with('/')) {
    above = (beside / "").string();
    found = matching_folders(above + pattern);
  }
  if (found.empty()) {
    fail(node.line, fmt::format("glob {}: no folder matches (looked from the working directory and "
                                "beside the recipe)",
                                pattern));
  }
  const Window window = window_of(map);
  const std::vector<size_t> places = window.of(found.size());
  if (places.empty()) {
    fail(map.line, fmt::format("models: {} are asked for, and {} folders match {}", window.words(),
                               found.size(), pattern));
  }
  for (const size_t place : places) {
    RecipeModel m;
    m.folder = found[place];
    m.model = found[place].substr(found[place].starts_with(above) ? above.size() : 0);
    m.line = node.line;
    const size_t before = r.models.size();
    const size_t at = lewis::add_model(std::move(m), r);
    if (r.models.size() == before) {
      fail(node.line, fmt::format("glob {}: {} and {} are the same folder", pattern, found[place],
                                  r.models[at].model));
    }
  }
  r.notes.push_back(fmt::format("models: {} of the {} folders that {} matches, from {} to {}{}",
                                places.size(), found.size(), pattern, r.models.front().model,
                                r.models.back().model,
                                window.words().empty() ? "" : " (" + window.words() + ")"));
}

}  // namespace lewis
