// GSM8K by generation (greedy, if not asked otherwise), as lm-evaluation-harness does it (tasks
// gsm8k and gsm8k_cot, version 3): the share of questions with the right number, found strictly
// ("#### 18", "The answer is 18.") and flexibly (the last number).
#include <algorithm>

#include "base/error.h"
#include "eval/answers/gsm8k_answer.h"
#include "eval/tasks/fixed_shots.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

using Extract = std::string (*)(std::string_view text);

void check_options(const TaskContext& context) {
  const TaskOptions& o = context.options;
  if (o.format != "gsm8k") {
    throw usage_error("task {} reads data of format gsm8k, not {}", o.task, o.format);
  }
}

void check_shots(const TaskContext& context) {
  const TaskOptions& o = context.options;
  if (*o.shots == 0) return;
  if (o.shots_data.empty()) {
    throw usage_error("task gsm8k: {} shots need a file that they come from (gsm8k's training set)",
                      *o.shots);
  }
  std::error_code ignored;
  if (std::filesystem::equivalent(o.shots_data, o.data, ignored)) {
    throw usage_error("task gsm8k: shots cannot come from the test file {} itself",
                      o.shots_data.string());
  }
}

// Puts a choice of worked examples before each question.
void add_shots(const TaskContext& context, std::vector<DataItem>& items) {
  const uint64_t count = *context.options.shots;
  if (count == 0) return;
  const std::vector<DataItem> examples = read_items(context, context.options.shots_data);
  if (count > examples.size()) {
    throw usage_error("task gsm8k: {} shots, but {} holds {} examples", count,
                      context.options.shots_data.string(), examples.size());
  }
  const auto drawn = draw_shots(items.size(), examples.size(), count);
  for (size_t i = 0; i < items.size(); ++i) {
    std::string shots;
    for (uint32_t e : drawn[i]) shots += examples[e].prompt + examples[e].answer + "\n\n";
    items[i].prompt = shots + items[i].prompt;
  }
}

ItemResult score(const TaskItem& item, const std::string& text, Extract strict) {
  ItemResult result;
  result.response = text;
  result.filtered = {strict(text), extract_flexible(text)};
  const std::string target = normalize_answer(item.target);
  for (const std::string& found : result.filtered) {
    result.scores.push_back({normalize_answer(found) == target ? 1.0 : 0.0});
  }
  return result;
}

// A task whose prompts are those of `items`.
PreparedTask questions(const TaskContext& context, const std::vector<DataItem>& items,
                       const std::vector<std::string>& stops, Extract strict) {
  PreparedTask task;
  task.version = 3;
  task.metrics = {{"exact_match", "strict-match", MetricInfo::Kind::kShare, true},
                  {"exact_match", "flexible-extract", MetricInfo::Kind::kShare, true}};
  task.settings = generation_settings(context.options, stops);
  task.settings["num_fewshot"] = *context.options.shots;
  for (const DataItem& item : items) {
    // The answer as the file has it: without the space that parts it from the prompt.
    task.items.push_back({item.where, doc_of(item), item.prompt, item.answer.substr(1),
                          prompt_tokens(context, item.prompt, item.where)});
  }
  task.run = [stops, strict](const TaskRun& run) {
    run_generation(run, stops, [&](const TaskItem& item, const std::string& text) {
      return score(item, text, strict);
    });
  };
  return task;
}

}  // namespace

PreparedTask prepare_gsm8k(const TaskContext& context) {
  check_options(context);
  check_shots(context);
  std::vector<DataItem> items = read_items(context, context.options.data, context.options.limit);
  add_shots(context, items);
  return questions(context, items, {"Question:", "</s>", "<|im_end|>"}, extract_strict);
}

PreparedTask prepare_gsm8k_cot(const TaskContext& context) {
  check_options(context);
  if (!context.options.shots_data.empty()) {
    throw usage_error("task gsm8k_cot: its shots are fixed, so --shots-data has no meaning");
  }
  std::vector<std::string> shots;
  for (const QuestionShot& shot : gsm8k_cot_shots()) {
    shots.push_back("Q: " + shot.question + "\nA: " + shot.answer);
  }
  const std::string before = fixed_prefix(context, shots);
  std::vector<DataItem> items = read_items(context, context.options.data, context.options.limit);
  for (DataItem& item : items) {
    item.prompt = before + "Q: " + doc_of(item)["question"].get<std::string>() + "\nA:";
    // The text behind the last mark, without the space around it.
    const size_t mark = item.answer.rfind("####");
    std::string target = mark == item.answer.npos ? item.answer : item.answer.substr(mark + 4);
    const size_t first = std::min(target.find_first_not_of(" \t\r\n"), target.size());
    target.erase(target.find_last_not_of(" \t\r\n") + 1);
    item.answer = " " + target.substr(std::min(first, target.size()));
  }
  return questions(context, items, {"Q:", "</s>", "<|im_end|>"}, extract_chain);
}

}  // namespace lewis
