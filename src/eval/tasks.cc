#include "eval/tasks.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/hash.h"
#include "base/suggest.h"
#include "eval/needed_data.h"
#include "eval/tasks/task.h"
#include "io/hub_cache.h"
#include "text/formats/guess.h"

namespace lewis {
namespace {

constexpr TaskData kGsm8kTest = {
    "gsm8k_test.jsonl", "openai/gsm8k", "test",
    "github.com/openai/grade-school-math, grade_school_math/data/test.jsonl", "main"};
constexpr TaskData kGsm8kTrain = {
    "gsm8k_train.jsonl", "openai/gsm8k", "train",
    "github.com/openai/grade-school-math, grade_school_math/data/train.jsonl", "main"};
constexpr TaskData kMbpp = {"mbpp.jsonl", "google-research-datasets/mbpp", "test",
                            "github.com/google-research/google-research, mbpp/mbpp.jsonl", "full"};
constexpr TaskData kHumaneval = {"humaneval.jsonl", "openai/openai_humaneval", "test",
                                 "github.com/openai/human-eval, data/HumanEval.jsonl.gz, unpacked"};
constexpr TaskData kIfeval = {
    "ifeval_input_data.jsonl", "google/IFEval", "train",
    "github.com/google-research/google-research, instruction_following_eval/data/input_data.jsonl"};

constexpr std::array kTasks = {
    Task{"loss", "", 0, prepare_loss},
    Task{"perplexity", "", 0, prepare_perplexity},
    Task{"kl", "", 0, prepare_kl},
    Task{"gsm8k", "gsm8k", 256, prepare_gsm8k, kGsm8kTest, kGsm8kTrain, 5},
    Task{"gsm8k_cot", "gsm8k", 256, prepare_gsm8k_cot, kGsm8kTest, {}, 8},
    Task{"mbpp", "mbpp", 256, prepare_mbpp, kMbpp, {}, 3, true},
    Task{"humaneval", "humaneval", 1024, prepare_humaneval, kHumaneval, {}, 0, true},
    Task{"ifeval", "ifeval", 1280, prepare_ifeval, kIfeval},
};
constexpr Task kOwn = {"own", "own", 256, prepare_own};

const Task& find_task(std::string_view name) {
  const auto task = std::ranges::find(kTasks, name, &Task::name);
  if (task != kTasks.end()) return *task;
  const auto names = task_names();
  throw usage_error("unknown task '{}'; did you mean '{}'? Known: {}", name,
                    nearest_name(name, names), fmt::join(names, ", "));
}

const Task& task_of(const TaskOptions& options) {
  return options.own ? kOwn : find_task(options.task);
}

// Where the data are, and the examples of a task that draws them: those of a file of the user's own
// must be named.
void settle_data(TaskOptions& o, const Task& task) {
  if (!o.shots_data.empty()) o.shots_data = resolved_data(o.shots_data);
  if (!o.data.empty()) {
    o.data = resolved_data(o.data);
    if (!o.shots) o.shots = task.train.name.empty() || !o.shots_data.empty() ? task.shots : 0;
    return;
  }
  if (task.test.name.empty()) {
    throw usage_error("task {}: no data; give --data FILE or --task {}:FILE:FORMAT", task.name,
                      task.name);
  }
  if (!o.shots) o.shots = task.shots;
  o.data = find_task_data(task.test, o.data_folder);
  if (*o.shots > 0 && o.shots_data.empty() && !task.train.name.empty()) {
    o.shots_data = find_task_data(task.train, o.data_folder);
  }
}

void settle_own(TaskOptions& o) {
  const OwnTask& own = *o.own;
  o.task = o.label = own.name;
  if (o.data.empty()) o.data = own.data;
  if (o.shots_data.empty()) o.shots_data = own.shots_data;
  if (!o.shots) o.shots = own.shots;
  if (!o.max_new_tokens) o.max_new_tokens = own.max_new_tokens;
}

std::string format_of(const TaskOptions& options, const Task& task) {
  if (!options.format.empty()) return options.format;
  if (!task.format.empty()) return std::string(task.format);
  if (!options.answer_field.empty()) return "jsonl";
  return std::string(name_of(guess_format(options.data)));
}

}  // namespace

std::vector<std::string_view> task_names() {
  std::vector<std::string_view> names;
  for (const Task& task : kTasks) names.push_back(task.name);
  return names;
}

std::string data_format_of(const TaskOptions& options) {
  if (options.own) return "own";
  const Task& task = task_of(options);
  if (options.data.empty())
    return options.format.empty() ? std::string(task.format) : options.format;
  TaskOptions resolved = options;
  resolved.data = resolved_data(options.data);
  return format_of(resolved, task);
}

namespace {

// Data that the user names by an id.
void add_named(const std::filesystem::path& data, std::vector<std::string>& names) {
  const std::string text = data.string(), name = text.substr(0, text.rfind('#'));
  std::error_code error;
  if (!text.empty() && is_data_set_id(name) && !std::filesystem::exists(text, error) &&
      !std::filesystem::exists(name, error))
    names.push_back(text);
}

void add_known(const TaskData& data, const std::filesystem::path& folder,
               std::vector<std::string>& names) {
  try {
    find_task_data(data, folder);
  } catch (const Error&) {
    names.push_back(fmt::format("{}#{}{}{}", data.dataset, data.config,
                                data.config.empty() ? "" : "/", data.split));
  }
}

}  // namespace

std::vector<std::string> data_to_fetch(const TaskOptions& options) {
  std::vector<std::string> names;
  const Task& task = task_of(options);
  TaskOptions o = options;
  if (o.own) settle_own(o);
  add_named(o.data, names);
  add_named(o.shots_data, names);
  if (!o.data.empty() || task.test.name.empty()) return names;
  add_known(task.test, o.data_folder, names);
  if (o.shots.value_or(task.shots) > 0 && o.shots_data.empty() && !task.train.name.empty())
    add_known(task.train, o.data_folder, names);
  return names;
}

bool runs_programs(const TaskOptions& options) {
  return options.own ? options.own->runs_programs() : find_task(options.task).programs;
}

PreparedTask prepare_task(const TaskOptions& options, const ModelSpec& spec,
                          const Tokenizer* tokenizer) {
  const Task& task = task_of(options);
  TaskOptions settled = options;
  if (options.own) settle_own(settled);
  settle_data(settled, task);
  settled.format = options.own ? "own" : format_of(settled, task);
  if (!settled.max_new_tokens) settled.max_new_tokens = task.max_new_tokens;
  if (runs_programs(settled) && !settled.sandbox) {
    throw failed_error("task {}: it runs programs, but there is no sandbox", settled.task);
  }
  const std::string stem = settled.data.stem().string();
  if (settled.label.empty()) settled.label = settled.task + " " + stem;
  PreparedTask prepared = task.prepare({settled, spec, tokenizer});
  // A task that has data of its own is known by its name alone.
  prepared.name = task.format.empty() ? settled.task + "_" + stem : settled.task;
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

void run_items(const PreparedTask& task, const TaskModel& model, const std::vector<size_t>& items,
               const ItemFn& done, const ProgressFn& progress) {
  if (!items.empty()) task.run({task, model, items, done, progress});
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
  run_items(task, model, missing, take, progress);
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
