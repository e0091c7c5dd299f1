// What a task is: a function from a model and options to metrics. Each has a file of its own here,
// a declaration below and a line in the table of eval/tasks.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "eval/tasks.h"
#include "eval/token_loss.h"
#include "text/dataset.h"

namespace lewis {

struct TaskContext {
  const TaskOptions& options;
  const Transformer& model;
  const Tokenizer* tokenizer;  // may be null
  const std::vector<int32_t>& stop_ids;
  const ProgressFn& progress;
};

struct Task {
  std::string_view name;
  std::string_view format;  // of data whose format is not said; "": by the file's ending
  // Fills metrics and samples; the rest of the result is run_task's.
  TaskResult (*run)(const TaskContext&);
};

TaskResult run_loss(const TaskContext& context);
TaskResult run_perplexity(const TaskContext& context);
TaskResult run_gsm8k(const TaskContext& context);

// The items of a data file in the task's format.
std::vector<DataItem> read_items(const TaskContext& context, const std::filesystem::path& file);

// The item's tokens. Throws Error(kInput), with the item's file and line, for an id that the model
// does not know, and when there are more tokens than `longest`.
TokenSequence item_tokens(const TaskContext& context, const DataItem& item, int64_t longest);

}  // namespace lewis
