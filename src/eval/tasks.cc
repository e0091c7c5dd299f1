#include "eval/tasks.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/hash.h"
#include "base/suggest.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

constexpr std::array kTasks = {
    Task{"loss", "", 0, prepare_loss},
    Task{"perplexity", "", 0, prepare_perplexity},
    Task{"gsm8k", "gsm8k", 256, prepare_gsm8k},
    Task{"ifeval", "ifeval", 1280, prepare_ifeval},
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

PreparedTask prepare_task(const TaskOptions& options, const ModelSpec& spec,
                          const Tokenizer* tokenizer) {
  const Task& task = find_task(options.task);
  TaskOptions settled = options;
  if (settled.data.empty()) {
    throw usage_error("task {}: no data; give --data FILE or --task {}:FILE:FORMAT", task.name,
                      task.name);
  }
  settled.format = format_of(options, task);
  if (!settled.max_new_tokens) settled.max_new_tokens = task.max_new_tokens;
  const std::string stem = options.data.stem().string();
  if (settled.label.empty()) settled.label = options.task + " " + stem;
  PreparedTask prepared = task.prepare({settled, spec, tokenizer});
  // A task that has data of its own is known by its name alone.
  prepared.name = task.format.empty() ? options.task + "_" + stem : options.task;
  prepared.options = std::move(settled);
  return prepared;
}

std::string identity(const PreparedTask& task) {
  Sha256 hash;
  const auto add = [&](std::string_view text) {
    hash.add(std::to_string(text.size())).add(":").add(text);
  };
  add(Json{{"task", task.options.task}, {"version", task.version}, {"settings", task.settings}}
          .dump());
  for (const MetricInfo& metric : task.metrics) add(metric.key());
  for (const TaskItem& item : task.items) {
    add(item.doc.dump());
    add(item.prompt);
    add(item.target);
    add(std::to_string(item.tokens.prompt_tokens));
    hash.add(std::as_bytes(std::span(item.tokens.ids)));
  }
  return hash.hex();
}

std::vector<ItemResult> run_task(const PreparedTask& task, const TaskModel& model,
                                 std::map<size_t, ItemResult> known, const ItemFn& done,
                                 const ProgressFn& progress) {
  std::vector<size_t> missing;
  for (size_t i = 0; i < task.items.size(); ++i) {
    if (!known.contains(i)) missing.push_back(i);
  }
  const ItemFn take = [&](size_t item, const ItemResult& result) {
    if (done) done(item, result);
    known[item] = result;
  };
  if (!missing.empty()) task.run({task, model, missing, take, progress});
  std::vector<ItemResult> results;
  for (auto& [item, result] : known) results.push_back(std::move(result));
  if (results.size() != task.items.size()) {
    throw failed_error("task {}: {} results of {} items", task.name, results.size(),
                       task.items.size());
  }
  return results;
}

std::vector<ItemScore> scores_of(const std::vector<ItemResult>& results, size_t metric) {
  std::vector<ItemScore> scores;
  for (const ItemResult& result : results) scores.push_back(result.scores.at(metric));
  return scores;
}

}  // namespace lewis
