#include "eval/tasks.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/suggest.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

constexpr std::array kTasks = {
    Task{"loss", "", run_loss},
    Task{"perplexity", "", run_perplexity},
    Task{"gsm8k", "gsm8k", run_gsm8k},
};

const Task& find_task(std::string_view name) {
  const auto task = std::ranges::find(kTasks, name, &Task::name);
  if (task != kTasks.end()) return *task;
  const auto names = task_names();
  throw usage_error("unknown task '{}'; did you mean '{}'? Known: {}", name,
                    nearest_name(name, names), fmt::join(names, ", "));
}

std::string format_of(const TaskOptions& options, const Task& task) {
  if (!options.format.empty()) return options.format;
  if (!task.format.empty()) return std::string(task.format);
  if (options.data.extension() == ".txt") return "text";
  throw usage_error("task {}: the format of {} cannot be told from its ending; give one of: {}",
                    task.name, options.data.string(), fmt::join(data_formats(), ", "));
}

}  // namespace

std::vector<std::string_view> task_names() {
  std::vector<std::string_view> names;
  for (const Task& task : kTasks) names.push_back(task.name);
  return names;
}

TaskResult run_task(const TaskOptions& options, const Transformer& model,
                    const Tokenizer* tokenizer, const std::vector<int32_t>& stop_ids,
                    const ProgressFn& progress) {
  const Task& task = find_task(options.task);
  TaskOptions settled = options;
  settled.format = format_of(options, task);
  TaskResult result = task.run({settled, model, tokenizer, stop_ids, progress});
  result.task = options.task;
  result.data = options.data.string();
  result.label = options.label;
  if (result.label.empty()) result.label = options.task + " " + options.data.stem().string();
  for (Metric& metric : result.metrics) metric.summary = mean_of(metric.values);
  return result;
}

std::vector<DataItem> read_items(const TaskContext& context, const std::filesystem::path& file) {
  DataOptions data;
  data.file = file;
  data.format = context.options.format;
  data.prompt_field = context.options.prompt_field;
  data.answer_field = context.options.answer_field;
  return read_data(data, context.options.chat);
}

TokenSequence item_tokens(const TaskContext& context, const DataItem& item, int64_t longest) {
  TokenSequence sequence = tokenize(context.tokenizer, item);
  if (static_cast<int64_t>(sequence.ids.size()) > longest) {
    throw input_error("{}: the item has {} tokens, but at most {} fit the model's {} positions",
                      item.where, sequence.ids.size(), longest, context.model.spec().max_positions);
  }
  for (int32_t id : sequence.ids) {
    if (id < 0 || id >= context.model.spec().vocab) {
      throw input_error("{}: token id {} is not in the model's vocabulary of {}", item.where, id,
                        context.model.spec().vocab);
    }
  }
  return sequence;
}

}  // namespace lewis
