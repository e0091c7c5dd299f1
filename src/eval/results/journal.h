// Finished items on disk, so that an evaluation that was stopped goes on where it was.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <utility>

#include "eval/tasks.h"
#include "io/json_lines.h"

namespace lewis {

// A task on a model: the name and the identity of its journals.
struct JournalOfTask {
  // `about`: everything that decides the results of the items, except for the program.
  JournalOfTask(const PreparedTask& task, const Json& about);

  std::string key;   // a hash of `about` and of the program
  std::string name;  // TASK_KEY, with the first digits of the key
};

// The items that the journals of a folder have: the one of a process that does the whole task, and
// those of workers that share it (docs/clusters.md). It writes nothing. Error(kInput): a file that
// holds something that no evaluation wrote.
std::map<size_t, ItemResult> finished_items(const std::filesystem::path& folder,
                                            const PreparedTask& task, const Json& about);

// One journal (io/json_lines.h) per task and model, with one record per item that is finished.
// Records are not flushed one by one: a power cut may take those of the last second with it.
class EvalJournal {
 public:
  // Opens or makes FOLDER/TASK_KEY.jsonl, and takes over what the journals of workers have.
  // `fresh`: forgets what is in all of them. Error(kUsage) when another process has the file open,
  // Error(kInput) when it holds something that no evaluation wrote, Error(kResource) on a full
  // disk.
  EvalJournal(const std::filesystem::path& folder, const PreparedTask& task, const Json& about,
              bool fresh);
  // The journal FOLDER/TASK_KEY.WORKER.jsonl of one of several workers. No other process uses the
  // name, so nothing relies on locks. It begins with a record that says how many items the task
  // has, and how many this worker has `left` when it begins: of this task, and of all that it does
  // after it.
  static EvalJournal of_worker(const std::filesystem::path& folder, const PreparedTask& task,
                               const Json& about, const std::string& worker, uint64_t left);

  // The items that were there when it was opened, and those appended since.
  const std::map<size_t, ItemResult>& finished() const { return finished_; }
  void append(size_t item, const ItemResult& result);
  // Returns when all records are on the disk.
  void sync();

 private:
  EvalJournal(OpenedJournal opened, const PreparedTask& task);
  explicit EvalJournal(JsonLines file) : file_(std::move(file)) {}

  JsonLines file_;
  std::chrono::steady_clock::time_point synced_ = std::chrono::steady_clock::now();
  std::map<size_t, ItemResult> finished_;
};

}  // namespace lewis
