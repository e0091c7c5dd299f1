// What lies in a folder, to be compared before and after.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/hash.h"
#include "golden_file.h"

namespace lewis {

// Every file below a folder with the hash of its bytes: equal snapshots mean an untouched disk.
inline std::map<std::string, std::string> snapshot(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string name = std::filesystem::relative(entry.path(), folder).string();
    files[name] = entry.is_regular_file() ? sha256_hex(file_text(entry.path())) : "folder";
  }
  return files;
}

// The same of a merge, or of a folder of merges, without what tells of a run, its times: no part of
// the result.
inline std::map<std::string, std::string> result_of(const std::filesystem::path& out) {
  std::map<std::string, std::string> files = snapshot(out);
  std::erase_if(files, [](const auto& file) {
    return std::filesystem::path(file.first).filename() == "lewis_run.json";
  });
  return files;
}

}  // namespace lewis
