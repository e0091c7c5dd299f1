#include "app/evaluation_tasks.h"

#include <algorithm>

#include "app/own_task.h"
#include "base/error.h"
#include "text/chat_template.h"

namespace lewis {

TaskOptions parse_task(const std::string& text, const TaskSettings& settings) {
  TaskOptions task;
  static_cast<TaskSettings&>(task) = settings;
  if (text.ends_with(".yaml") || text.ends_with(".yml")) {
    task.own = std::make_shared<OwnTask>(read_own_task(text));
    task.task = task.own->name;
    task.data.clear();
    return task;
  }
  const size_t first = std::min(text.find(':'), text.size());
  const size_t last = std::max(first, std::min(text.rfind(':'), text.size()));
  task.task = text.substr(0, first);
  if (first < last) {
    task.data = text.substr(first + 1, last - first - 1);
    task.format = text.substr(last + 1);
  } else if (first < text.size()) {
    task.data = text.substr(first + 1);
  }
  return task;
}

bool needs_tokenizer(const std::vector<TaskOptions>& tasks) {
  return !std::ranges::all_of(tasks,
                              [](const TaskOptions& t) { return data_format_of(t) == "ids"; });
}

namespace {

// Without python3 no program can run.
void leave_out_programs(std::vector<TaskOptions>& tasks, const Sandbox& sandbox,
                        const NoticeFn& tell) {
  for (const TaskOptions& task : tasks) {
    if (!runs_programs(task)) continue;
    tell({true, fmt::format("task {} is not run, since it runs programs: {}", task.task,
                            sandbox.cannot_run())});
  }
  std::erase_if(tasks, runs_programs);
  if (tasks.empty()) throw failed_error("no task is left to run");
}

}  // namespace

void add_sandbox(std::vector<TaskOptions>& tasks, bool allow_unsandboxed, const NoticeFn& tell) {
  if (std::ranges::none_of(tasks, runs_programs)) return;
  const auto sandbox = std::make_shared<const Sandbox>();
  if (!sandbox->cannot_run().empty()) return leave_out_programs(tasks, *sandbox, tell);
  const std::string missing = sandbox->missing_layers();
  if (!missing.empty() && !allow_unsandboxed) {
    throw usage_error(
        "programs that a model writes would run without these layers of the sandbox: {}; give "
        "--allow-unsandboxed to run them all the same",
        missing);
  }
  tell({false, fmt::format("Programs run with Python {} in a sandbox{}", sandbox->python().version,
                           missing.empty() ? " with all its layers" : " without: " + missing)});
  for (TaskOptions& task : tasks) {
    if (runs_programs(task)) task.sandbox = sandbox;
  }
}

std::shared_ptr<const PreparedTask> PreparedTasks::get(size_t index, const TaskOptions& options,
                                                       const RunningModel& model) {
  const Tokenizer* tokenizer = model.tokenizer ? &*model.tokenizer : nullptr;
  const ModelSpec& spec = model.transformer->spec();
  if (data_format_of(options) == "chat") {  // a template is the model's own
    TaskOptions own = options;
    const ChatTemplate chat = ChatTemplate::load(model.input.files());
    own.chat = &chat;
    return std::make_shared<PreparedTask>(prepare_task(own, spec, tokenizer));
  }
  auto& task =
      tasks_[{index, tokenizer ? tokenizer->identity() : "", spec.max_positions, spec.vocab}];
  if (!task) task = std::make_shared<PreparedTask>(prepare_task(options, spec, tokenizer));
  return task;
}

void make_names_unique(std::vector<std::shared_ptr<const PreparedTask>>& tasks) {
  std::map<std::string, int> used;
  for (auto& task : tasks) {
    std::string name = task->name;
    if (used.contains(name)) name += "_" + task->options.data.stem().string();
    const std::string stem = name;
    for (int n = 2; used.contains(name); ++n) name = fmt::format("{}_{}", stem, n);
    used[name] = 1;
    if (name == task->name) continue;
    PreparedTask renamed = *task;
    renamed.name = name;
    task = std::make_shared<PreparedTask>(std::move(renamed));
  }
}

}  // namespace lewis
