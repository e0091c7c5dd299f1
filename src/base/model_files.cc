#include "base/model_files.h"

#include "base/error.h"
#include "base/text_file.h"
#include "base/whole_file.h"

namespace lewis {

namespace fs = std::filesystem;

bool has_model_file(const fs::path& folder, const fs::path& name) {
  std::error_code error;
  return fs::exists(fs::symlink_status(folder / name, error));
}

std::string read_model_file(const fs::path& folder, const fs::path& name) {
  const FileHandle file = open_file_within(folder, name);
  std::string text = read_whole_file(file, folder / name, kMostOfModelFile);
  if (is_lfs_pointer(text)) throw lfs_pointer_error(folder / name);
  return text;
}

std::optional<std::string> ModelFiles::read(const std::string& name) const {
  if (const auto found = changed.find(name); found != changed.end()) return found->second;
  if (!has_model_file(folder, name)) return std::nullopt;
  return read_model_file(folder, name);
}

}  // namespace lewis
