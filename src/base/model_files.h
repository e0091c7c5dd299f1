// The small files of a model: those of its folder, some of them replaced, added or left out.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace lewis {

// Name -> content; nothing: the folder's file of that name is left out.
using ChangedFiles = std::map<std::string, std::optional<std::string>>;

struct ModelFiles {
  std::filesystem::path folder;
  ChangedFiles changed;

  ModelFiles() = default;
  // The files of a folder, with these changes.
  ModelFiles(std::filesystem::path of_folder, ChangedFiles changes = {})
      : folder(std::move(of_folder)), changed(std::move(changes)) {}

  // The content; nothing if the file does not exist. Error(kInput) when it cannot be read.
  std::optional<std::string> read(const std::string& name) const;
  // The file as messages name it.
  std::string path_of(const std::string& name) const { return (folder / name).string(); }
};

}  // namespace lewis
