// The tasks of an evaluation: as the caller names them, and as each tokenizer makes them.
#pragma once

#include <lewis/lewis.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "app/running_model.h"
#include "eval/tasks.h"

namespace lewis {

using NoticeFn = std::function<void(const Notice&)>;

// NAME, NAME:FILE, NAME:FILE:FORMAT or FILE.yaml as a task with these settings.
TaskOptions parse_task(const std::string& text, const TaskSettings& settings);

// Whether some task needs a tokenizer: all but those on token ids do.
bool needs_tokenizer(const std::vector<TaskOptions>& tasks);

// Gives tasks that run programs their sandbox. Where no program can run they are left out, with a
// notice; Error(kFailed) when no task is left. Where a layer of the sandbox is missing:
// Error(kUsage) unless `allow_unsandboxed`.
void add_sandbox(std::vector<TaskOptions>& tasks, bool allow_unsandboxed, const NoticeFn& tell);

// Tasks as each tokenizer makes them, shared by all models to which they are the same.
class PreparedTasks {
 public:
  // The task with that index among the evaluation's tasks, for a model.
  std::shared_ptr<const PreparedTask> get(size_t index, const TaskOptions& options,
                                          const RunningModel& model);

 private:
  std::map<std::tuple<size_t, std::string, int64_t, int64_t>, std::shared_ptr<const PreparedTask>>
      tasks_;
};

// Two tasks of one name would be one in the results: the second gets the name of its data as well.
void make_names_unique(std::vector<std::shared_ptr<const PreparedTask>>& tasks);

}  // namespace lewis
