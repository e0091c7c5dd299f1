// Finished items on disk, so that an evaluation that was stopped goes on where it was.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "eval/tasks.h"
#include "io/json_lines.h"

namespace lewis {

// One journal (io/json_lines.h) per task and model, with one record per item that is finished.
// Records are not flushed one by one, so a power cut may take the last ones with it.
class EvalJournal {
 public:
  // Opens or makes FOLDER/TASK_KEY.jsonl. KEY is a hash of `about`, which holds everything that
  // decides the results of the items, and of the program. `fresh`: forgets what is in the file.
  // Error(kUsage) when another process has it open, Error(kInput) when it holds something that no
  // evaluation wrote, Error(kResource) on a full disk.
  EvalJournal(const std::filesystem::path& folder, const PreparedTask& task, const Json& about,
              bool fresh);

  const std::map<size_t, ItemResult>& finished() const { return finished_; }
  void append(size_t item, const ItemResult& result);

 private:
  EvalJournal(OpenedJournal opened, const PreparedTask& task);

  JsonLines file_;
  std::map<size_t, ItemResult> finished_;
};

}  // namespace lewis
