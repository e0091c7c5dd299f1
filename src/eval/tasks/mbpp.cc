// MBPP, as lm-evaluation-harness does it (task mbpp, version 1): the share of programs that pass
// their three asserts. The items are task_id 11 to 510 of the whole file.
#include <algorithm>

#include "base/error.h"
#include "eval/tasks/fixed_shots.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

constexpr size_t kWhole = 974;  // rows of the file with all splits
constexpr int64_t kFirst = 11, kLast = 510;

const std::vector<std::string>& stops() {
  static const std::vector<std::string> kStops = {"[DONE]"};
  return kStops;
}

std::string joined(const std::vector<std::string>& tests) {
  return tests[0] + "\n" + tests[1] + "\n" + tests[2];
}

std::string prompt_of(const std::string& text, const std::vector<std::string>& tests) {
  return "You are an expert Python programmer, and here is your task: " + text +
         " Your code should pass these tests:\n\n" + joined(tests) + "\n[BEGIN]\n";
}

bool is_test(const DataRow& row) {
  const Json id = row.doc.value("task_id", Json());
  if (!id.is_number_integer()) throw input_error("{}: there is no whole 'task_id'", row.where);
  return id >= kFirst && id <= kLast;
}

std::vector<DataRow> test_rows(const TaskOptions& options) {
  std::vector<DataRow> rows = read_rows(options.data);
  if (rows.size() == kWhole) std::erase_if(rows, [](const DataRow& r) { return !is_test(r); });
  if (options.limit && rows.size() > options.limit) rows.resize(options.limit);
  return rows;
}

}  // namespace

PreparedTask prepare_mbpp(const TaskContext& context) {
  PreparedTask task;
  task.version = 1;
  task.metrics = {{"pass_at_1", "none", MetricInfo::Kind::kShare, true}};
  task.settings = generation_settings(context.options, stops());
  task.settings["num_fewshot"] = *context.options.shots;
  std::vector<std::string> shots;
  for (const ProgramShot& shot : mbpp_shots()) {
    shots.push_back(prompt_of(shot.text, shot.tests) + shot.code + "\n[DONE]");
  }
  const std::string before = fixed_prefix(context, shots);
  for (DataRow& row : test_rows(context.options)) {
    const std::vector<std::string> tests = row.texts("test_list");
    if (tests.size() < 3) {
      throw input_error("{}: the prompt shows three tests, but 'test_list' has {}", row.where,
                        tests.size());
    }
    const std::string prompt = before + prompt_of(row.text("text"), tests);
    task.items.push_back({row.where, std::move(row.doc), prompt, joined(tests),
                          prompt_tokens(context, prompt, row.where)});
  }
  task.run = [](const TaskRun& run) {
    run_programs(run, stops(), [](const TaskItem& item, const std::string& text) {
      return ProgramCase{.program = text, .tests = item.target};
    });
  };
  return task;
}

}  // namespace lewis
