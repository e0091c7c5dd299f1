// The small files of a model: those of its folder, some of them replaced, added or left out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace lewis {

// Name -> content; nothing: the folder's file of that name is left out.
using ChangedFiles = std::map<std::string, std::optional<std::string>>;

// The most that is read of a small file of a model. The largest tokenizers have some 40 MB.
inline constexpr uint64_t kMostOfModelFile = 128 << 20;

// True if the folder has an entry of that name, be it a link to nothing.
bool has_model_file(const std::filesystem::path& folder, const std::filesystem::path& name);

// The content of a small file in a folder: a regular file of at most kMostOfModelFile bytes, to
// which no link leads out of the folder (open_file_within). Error(kInput) that names the file and
// what is wrong, also when it is not there or is a Git LFS pointer.
std::string read_model_file(const std::filesystem::path& folder, const std::filesystem::path& name);

struct ModelFiles {
  std::filesystem::path folder;
  ChangedFiles changed;

  ModelFiles() = default;
  // The files of a folder, with these changes.
  ModelFiles(std::filesystem::path of_folder, ChangedFiles changes = {})
      : folder(std::move(of_folder)), changed(std::move(changes)) {}

  // The content; nothing if the file does not exist. `name` may lead into a folder below. The same
  // errors as read_model_file.
  std::optional<std::string> read(const std::string& name) const;
  // The file as messages name it.
  std::string path_of(const std::string& name) const { return (folder / name).string(); }
};

}  // namespace lewis
