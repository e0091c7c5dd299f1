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

}  // namespace lewis
