// Tasks measure a model: losses, questions, programs, instructions. A task is prepared once for all
// models that share a tokenizer, then run on each, item by item.
#pragma once

#include <lewis/options.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "eval/sandbox/sandbox.h"
#include "eval/scores/intervals.h"
#include "eval/scores/metric.h"
#include "eval/tasks/own_task.h"
#include "model/transformer.h"
#include "text/dataset.h"
#include "text/tokenizer.h"

namespace lewis {

struct TaskOptions : TaskSettings {
  std::string task;                        // one of task_names()
  std::shared_ptr<const OwnTask> own;      // a task of the user's own instead
  const ChatTemplate* chat = nullptr;      // format chat only; not owned
  std::string label;                       // how tables name it; "": task and file
  std::shared_ptr<const Sandbox> sandbox;  // of tasks that run programs
  std::string expert;                      // kl: what tells the expert from others (a fingerprint)
  std::function<void(const std::string&)> note{};  // see DataOptions::note
  uint64_t max_memory = 0;                         // of generation: see GenerateOptions
};

// One question, document or window, the same for all models.
struct TaskItem {
  std::string where;     // "file:line"
  Json doc;              // the row of the data, or what stands for it
  std::string prompt;    // text before `target`; "" where the data are ids
  std::string target;    // what a right answer is, or the text that is scored
  TokenSequence tokens;  // prompt, and for losses what is scored behind it
};

// The result of one item on one model.
struct ItemResult {
  std::vector<ItemScore> scores;      // one per metric
  Json response;                      // what the model gave: a text, or a log-likelihood
  std::vector<std::string> filtered;  // per metric, its filter's output; empty: no filter
  Json details = Json::object();      // anything else worth keeping
  bool operator==(const ItemResult&) const = default;
};
using ItemFn = std::function<void(size_t item, const ItemResult& result)>;

// The model that a task runs on.
struct TaskModel {
  const Transformer& transformer;
  const Tokenizer* tokenizer = nullptr;  // null for data of format ids
  std::vector<int32_t> stop_ids;         // end of sequence
  const Transformer* expert = nullptr;   // kl: whose distributions are the reference
};

struct PreparedTask;

// A run of some items of a task. Each is given to `done` as soon as it is finished, in any order;
// its result depends on the model and the whole list of items, not on which of them are run.
struct TaskRun {
  const PreparedTask& task;
  const TaskModel& model;
  const std::vector<size_t>& items;  // ascending
  const ItemFn& done;
  const ProgressFn& progress;
};

// A task with its data read, its prompts written and turned into tokens: the same for all models
// of one tokenizer, vocabulary and number of positions (and of one chat template, if any).
struct PreparedTask {
  TaskOptions options;  // settled: format, label, max_new_tokens
  std::string name;     // in files: "gsm8k", "loss_math_test"; options.label in tables
  int version = 0;      // as lm-evaluation-harness counts; changes when the numbers may
  std::vector<MetricInfo> metrics;
  Json settings;  // what decides the results beside items and model: shots, window, ...
  std::vector<TaskItem> items;
  bool in_passes = false;  // items go through the model in passes (work_units)
  std::function<void(const TaskRun&)> run;
};

// What can be given to one worker: a range of items, [first, last).
using WorkUnit = std::pair<size_t, size_t>;
// All items in their order: one per unit, or those of one pass through the model, which are not
// computed apart. The units depend on the task and on the model's size alone.
std::vector<WorkUnit> work_units(const PreparedTask& task, const ModelSpec& spec);

// True if the task runs programs that the model writes. It needs options.sandbox then.
bool runs_programs(const TaskOptions& options);

// Reads the data and writes the prompts. tokenizer may be null for data of format ids. Throws
// Error(kUsage): an unknown task, no data, a format that the task cannot use or that cannot be told
// from the file's ending, a window that does not fit the model; Error(kInput), with file and line:
// data that cannot be read, an item that is longer than the model's positions or has no answer.
PreparedTask prepare_task(const TaskOptions& options, const ModelSpec& spec,
                          const Tokenizer* tokenizer);

// SHA-256 over all of a prepared task that decides its results: name, version, settings, items.
std::string identity(const PreparedTask& task);

// Runs these items, which ascend, and gives each to `done` as soon as it is finished.
void run_items(const PreparedTask& task, const TaskModel& model, const std::vector<size_t>& items,
               const ItemFn& done, const ProgressFn& progress);

// All results, in the order of the items. Those of `known` are taken as they are, the others run
// and given to `done` (may be empty) one by one.
std::vector<ItemResult> run_task(const PreparedTask& task, const TaskModel& model,
                                 std::map<size_t, ItemResult> known, const ItemFn& done,
                                 const ProgressFn& progress);

// The scores of one metric, in the items' order.
std::vector<ItemScore> scores_of(const std::vector<ItemResult>& results, size_t metric);

std::vector<std::string_view> task_names();

// The format of a task's data: the one that is given, the task's own, or what its columns say
// (guess_format). "" for a task that names no data yet.
std::string data_format_of(const TaskOptions& options);

}  // namespace lewis
