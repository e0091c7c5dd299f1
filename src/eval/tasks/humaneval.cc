// HumanEval, as lm-evaluation-harness does it (task humaneval, version 1): the share of functions
// that pass their tests. Chen et al., "Evaluating Large Language Models Trained on Code", 2021.
#include "base/error.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

const std::vector<std::string>& stops() {
  static const std::vector<std::string> kStops = {"\nclass", "\ndef", "\n#", "\nif", "\nprint"};
  return kStops;
}

}  // namespace

PreparedTask prepare_humaneval(const TaskContext& context) {
  if (*context.options.shots > 0) throw usage_error("task humaneval: it has no shots");
  PreparedTask task;
  task.version = 1;
  task.metrics = {{"pass@1", "create_test", MetricInfo::Kind::kShare, true}};
  task.settings = generation_settings(context.options, stops());
  task.settings["num_fewshot"] = 0;
  std::vector<DataRow> rows = read_rows(context.options.data);
  const uint64_t limit = context.options.limit;
  if (limit && rows.size() > limit) rows.resize(limit);
  for (DataRow& row : rows) {
    const std::string prompt = row.text("prompt");
    const std::string target = row.text("test") + "\ncheck(" + row.text("entry_point") + ")";
    task.items.push_back(
        {row.where, std::move(row.doc), prompt, target, prompt_tokens(context, prompt, row.where)});
  }
  task.run = [](const TaskRun& run) {
    run_programs(run, stops(), [](const TaskItem& item, const std::string& text) {
      return ProgramCase{.program = item.prompt + text, .tests = item.target};
    });
  };
  return task;
}

}  // namespace lewis
