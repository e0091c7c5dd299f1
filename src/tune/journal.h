// What a long search has found so far, so that one that was cut off goes on where it stopped.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "base/json.h"
#include "io/file.h"

namespace lewis {

// One JSON line an answer, each on the disk before the next question. A last line that was cut off
// is as good as absent.
class TuneJournal {
 public:
  // `identity`: of all that decides the answers. A journal of another identity is begun anew.
  // Error(kResource) when it cannot be written, or when another process uses it.
  TuneJournal(const std::filesystem::path& file, const std::string& identity);

  std::optional<Json> find(const std::string& question) const;
  void add(const std::string& question, const Json& answer);
  size_t size() const { return answers_.size(); }

 private:
  std::map<std::string, Json> answers_;
  std::optional<File> file_;
};

}  // namespace lewis
