// Where the files and folders that a recipe names are: as written, then beside the recipe;
// models and data sets also in the local cache of the Hugging Face hub.
#include <algorithm>

#include "io/gguf.h"
#include "io/hub_cache.h"
#include "recipe/parse/recipe_reader.h"

namespace lewis {

namespace fs = std::filesystem;

std::optional<fs::path> RecipeReader::find_path(const std::string& written,
                                                bool (*fits)(const fs::path& path)) const {
  if (fits(written)) return written;
  const fs::path beside = file_.parent_path() / written;
  return !file_.empty() && fits(beside) ? std::optional(beside) : std::nullopt;
}

namespace {

bool is_file_or_folder(const fs::path& path) {
  return fs::is_regular_file(path) || fs::is_directory(path);
}

bool is_folder_or_gguf(const fs::path& path) {
  return fs::is_directory(path) || is_gguf_path(path);
}

}  // namespace

std::optional<fs::path> RecipeReader::find_model(const std::string& written) const {
  return find_path(written, is_folder_or_gguf);
}

std::optional<fs::path> RecipeReader::find_folder(const std::string& written) const {
  return find_path(written, fs::is_directory);
}

fs::path RecipeReader::file_path(const std::string& written, int line,
                                 std::string_view what) const {
  if (const auto found = find_path(written, fs::is_regular_file)) return *found;
  fail(line, fmt::format("{} {}: no such file (looked from the working directory and beside the "
                         "recipe)",
                         what, written));
}

fs::path RecipeReader::model_path(const std::string& written, int line,
                                  std::string_view what) const {
  if (const auto found = find_model(written)) return *found;
  if (written.ends_with(".gguf") && find_path(written, fs::exists))
    fail(line, fmt::format("{} {}: is no regular file", what, written));
  return folder_path(written, line, what);
}

fs::path RecipeReader::folder_path(const std::string& written, int line,
                                   std::string_view what) const {
  if (const auto found = find_folder(written)) return *found;
  if (const auto cached = find_in_hub_cache(written)) return *cached;
  fail(line, fmt::format("{} {}: no such folder (looked from the working directory, beside the "
                         "recipe and in the hub cache {})",
                         what, written, hub_cache_folder().string()));
}

fs::path RecipeReader::data_path(const std::string& written, int line) const {
  if (const auto found = find_path(written, is_file_or_folder)) return *found;
  const size_t mark = std::min(written.rfind('#'), written.size());
  const std::string name = written.substr(0, mark), part = written.substr(mark);
  if (const auto found = find_folder(name)) return found->string() + part;
  if (const auto cached = find_data_set_in_hub_cache(name)) return cached->string() + part;
  if (!part.empty() && find_path(name, is_file_or_folder))
    fail(line, fmt::format("data {}: a single file has neither config nor split", name));
  fail(line, fmt::format("data {}: no such file (looked from the working directory and beside the "
                         "recipe), and no data set of this id in the hub cache {}",
                         written, hub_cache_folder().string()));
}

}  // namespace lewis
