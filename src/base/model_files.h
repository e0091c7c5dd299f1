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
  // A folder is the files that it holds.
  ModelFiles(std::filesystem::path of_folder, ChangedFiles changes = {})
      : folder(std::move(of_folder)), changed(std::move(changes)) {}

  // Nothing if there is no such file. Error(kInput) names it when it cannot be read.
  std::optional<std::string> read(const std::string& name) const;
  // For messages.
  std::string path_of(const std::string& name) const { return (folder / name).string(); }
};

}  // namespace lewis
