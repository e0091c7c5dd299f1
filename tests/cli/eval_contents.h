// The results of an evaluation as they can be compared with those of another run.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/text_file.h"
#include "snapshot.h"

namespace lewis {

// All results of a folder without what tells the time; samples by their names without it.
inline std::string eval_contents(const std::filesystem::path& root) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("results_") && !name.starts_with("samples_")) continue;
    std::string text;
    const std::string whole = file_text(entry.path());
    for (const std::string_view line : split_lines(whole)) {
      if (line.find("\"date\"") == line.npos && line.find("time_seconds") == line.npos)
        text += std::string(line) + "\n";
    }
    files[entry.path().parent_path().filename().string() + name.substr(0, name.rfind("_20"))] =
        text;
  }
  std::string all;
  for (const auto& [name, text] : files) all += name + "\n" + text;
  return all;
}

}  // namespace lewis
