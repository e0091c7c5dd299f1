// GSM8K by generation (greedy, if not asked otherwise), as lm-evaluation-harness does it (task
// gsm8k, version 3): the share of questions whose number comes out, found strictly ("#### 18") and
// flexibly (the last number).
#include "base/error.h"
#include "eval/gsm8k_answer.h"
#include "eval/python_random.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

constexpr uint32_t kShotSeed = 1234;  // of lm-evaluation-harness

const std::vector<std::string>& stops() {
  static const std::vector<std::string> kStops = {"Question:", "</s>", "<|im_end|>"};
  return kStops;
}

void check_options(const TaskContext& context) {
  const TaskOptions& o = context.options;
  if (o.format != "gsm8k") {
    throw usage_error("task gsm8k reads data of format gsm8k, not {}", o.format);
  }
  if (o.shots == 0) return;
  if (o.shots_data.empty()) {
    throw usage_error("task gsm8k: {} shots need a file that they come from (gsm8k's training set)",
                      o.shots);
  }
  std::error_code ignored;
  if (std::filesystem::equivalent(o.shots_data, o.data, ignored)) {
    throw usage_error("task gsm8k: shots cannot come from the test file {} itself",
                      o.shots_data.string());
  }
}

// Puts a choice of worked examples before each question: sample() anew for each, in order, from
// one random.Random(1234).
void add_shots(const TaskContext& context, std::vector<DataItem>& items) {
  const uint64_t count = context.options.shots;
  if (count == 0) return;
  const std::vector<DataItem> examples = read_items(context, context.options.shots_data);
  if (count > examples.size()) {
    throw usage_error("task gsm8k: {} shots, but {} holds {} examples", count,
                      context.options.shots_data.string(), examples.size());
  }
  PythonRandom random(kShotSeed);
  for (DataItem& item : items) {
    std::string shots;
    for (uint32_t e :
         random.sample(static_cast<uint32_t>(examples.size()), static_cast<uint32_t>(count))) {
      shots += examples[e].prompt + examples[e].answer + "\n\n";
    }
    item.prompt = shots + item.prompt;
  }
}

ItemResult score(const TaskItem& item, const std::string& text) {
  ItemResult result;
  result.response = text;
  result.filtered = {extract_strict(text), extract_flexible(text)};
  const std::string target = normalize_answer(item.target);
  for (const std::string& found : result.filtered) {
    result.scores.push_back({normalize_answer(found) == target ? 1.0 : 0.0});
  }
  return result;
}

}  // namespace

PreparedTask prepare_gsm8k(const TaskContext& context) {
  check_options(context);
  PreparedTask task;
  task.version = 3;
  task.metrics = {{"exact_match", "strict-match", MetricInfo::Kind::kShare, true},
                  {"exact_match", "flexible-extract", MetricInfo::Kind::kShare, true}};
  task.settings = generation_settings(context.options, stops());
  task.settings["num_fewshot"] = context.options.shots;
  std::vector<DataItem> items = read_items(context, context.options.data, context.options.limit);
  add_shots(context, items);
  for (const DataItem& item : items) {
    // The answer as the file has it: without the space that parts it from the prompt.
    task.items.push_back({item.where, doc_of(item), item.prompt, item.answer.substr(1),
                          prompt_tokens(context, item.prompt, item.where)});
  }
  task.run = [](const TaskRun& run) { run_generation(run, stops(), score); };
  return task;
}

}  // namespace lewis
