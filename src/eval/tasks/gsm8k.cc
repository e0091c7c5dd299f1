// GSM8K by generation (greedy, if not asked otherwise), as lm-evaluation-harness does it (task
// gsm8k, version 3): the share of questions whose number comes out, found strictly ("#### 18") and
// flexibly (the last number).
#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "eval/gsm8k_answer.h"
#include "eval/python_random.h"
#include "eval/tasks/task.h"
#include "text/stop_strings.h"

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
  if (!context.tokenizer) throw input_error("task gsm8k: the model has no tokenizer");
  if (o.max_new_tokens < 1) {
    throw usage_error("task gsm8k: {} new tokens, expected 1 or more", o.max_new_tokens);
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

std::vector<std::vector<int32_t>> encode_prompts(const TaskContext& context,
                                                 const std::vector<DataItem>& items) {
  const int64_t longest = context.model.spec().max_positions - context.options.max_new_tokens;
  std::vector<std::vector<int32_t>> prompts;
  for (const DataItem& item : items) {
    DataItem question = item;
    question.answer.clear();
    prompts.push_back(item_tokens(context, question, longest).ids);
  }
  return prompts;
}

std::vector<std::string> generate_texts(const TaskContext& context,
                                        const std::vector<DataItem>& items) {
  GenerateOptions options;
  options.max_new_tokens = context.options.max_new_tokens;
  options.temperature = context.options.temperature;
  options.top_p = context.options.top_p;
  options.seed = context.options.seed;
  options.stop_ids = context.stop_ids;
  StopStrings stop_strings(*context.tokenizer, stops());
  options.stop = [&](size_t i, std::span<const int32_t> generated) {
    return stop_strings.completed(i, generated);
  };
  options.progress = [&](const Progress& p) {
    if (context.progress) context.progress({"generating", "items", p.done, p.total});
  };
  std::vector<std::string> texts;
  for (const auto& ids : generate(context.model, encode_prompts(context, items), options)) {
    texts.push_back(cut_at_stops(context.tokenizer->decode(ids, true), stops()));
  }
  return texts;
}

}  // namespace

TaskResult run_gsm8k(const TaskContext& context) {
  check_options(context);
  std::vector<DataItem> items = read_items(context, context.options.data);
  if (context.options.limit && items.size() > context.options.limit) {
    items.resize(context.options.limit);
  }
  add_shots(context, items);
  const std::vector<std::string> texts = generate_texts(context, items);
  TaskResult result;
  result.samples = Json::array();
  Metric strict{"exact_match,strict-match", true, {}, {}, {}};
  Metric flexible{"exact_match,flexible-extract", true, {}, {}, {}};
  for (size_t i = 0; i < items.size(); ++i) {
    // The answer as the file has it: without the space that parts it from the prompt.
    const std::string target = normalize_answer(std::string_view(items[i].answer).substr(1));
    const std::string strict_found = extract_strict(texts[i]);
    const std::string flexible_found = extract_flexible(texts[i]);
    strict.values.push_back(normalize_answer(strict_found) == target ? 1 : 0);
    flexible.values.push_back(normalize_answer(flexible_found) == target ? 1 : 0);
    result.samples.push_back({{"index", i},
                              {"where", items[i].where},
                              {"prompt_sha256", sha256_hex(items[i].prompt)},
                              {"target", target},
                              {"generated", texts[i]},
                              {"strict-match", strict_found},
                              {"flexible-extract", flexible_found},
                              {strict.name, strict.values.back()},
                              {flexible.name, flexible.values.back()}});
  }
  result.metrics = {std::move(strict), std::move(flexible)};
  return result;
}

}  // namespace lewis
