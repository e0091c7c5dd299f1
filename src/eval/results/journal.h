// Finished items on disk, so that an evaluation that was stopped goes on where it was.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "eval/tasks.h"
#include "io/file.h"

namespace lewis {

// One file for a task on a model: a first line with the key and what it stands for, then a line for
// each item, appended as it is finished. What a crash tore from its end is cut off; lines are not
// flushed one by one, so a power cut may take the last ones with it.
class EvalJournal {
 public:
  // Opens or makes FOLDER/TASK_KEY.jsonl, where KEY is a hash of `about`: all that decides the
  // results of the items. `fresh`: forgets what is in it. Error(kUsage) when another process has it
  // open, Error(kInput) when it holds what no evaluation wrote, Error(kResource) on a full disk.
  EvalJournal(const std::filesystem::path& folder, const PreparedTask& task, const Json& about,
              bool fresh);

  const std::map<size_t, ItemResult>& finished() const { return finished_; }
  void append(size_t item, const ItemResult& result);

 private:
  void take_over(const PreparedTask& task);

  File file_;
  std::string head_;  // the first line
  std::map<size_t, ItemResult> finished_;
};

}  // namespace lewis
