// The answers that a long search has found so far, on disk, so that an interrupted one goes on
// where it stopped.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "base/json_fwd.h"
#include "io/json_lines.h"

namespace lewis {

// A journal (io/json_lines.h) with one record per answer; an answer is on the disk before the next
// question is asked.
class TuneJournal {
 public:
  // `identity` is a hash of everything that decides the answers, except for the program. A journal
  // of another identity or another build is begun anew. Error(kUsage) when another process uses it,
  // Error(kResource) on a full disk.
  TuneJournal(const std::filesystem::path& file, const std::string& identity);

  std::optional<Json> find(const std::string& question) const;
  void add(const std::string& question, const Json& answer);
  size_t size() const { return answers_.size(); }

 private:
  explicit TuneJournal(OpenedJournal opened);

  JsonLines file_;
  std::map<std::string, JsonBox> answers_;
};

}  // namespace lewis
