// IFEval by generation, as lm-evaluation-harness does it (task ifeval, version 4): the share of
// prompts all of whose rules are followed, and the share of rules, both strictly and loosely.
#include <algorithm>

#include "base/error.h"
#include "eval/answers/ifeval.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

void add_scores(const std::vector<bool>& followed, ItemResult& result) {
  const auto count = static_cast<double>(followed.size());
  const auto right = static_cast<double>(std::ranges::count(followed, true));
  result.scores.push_back({right == count ? 1.0 : 0.0});
  result.scores.push_back({right / count, count});
}

ItemResult score(const TaskItem& item, const std::string& text) {
  const IfevalVerdict verdict = check_ifeval(read_ifeval_rules(item.doc, item.where), text);
  ItemResult result;
  result.response = text;
  add_scores(verdict.strict, result);
  add_scores(verdict.loose, result);
  result.details = {{"followed_strictly", verdict.strict}, {"followed_loosely", verdict.loose}};
  return result;
}

}  // namespace

PreparedTask prepare_ifeval(const TaskContext& context) {
  if (context.options.format != "ifeval")
    throw usage_error("task ifeval reads data of format ifeval, not {}", context.options.format);
  PreparedTask task;
  task.version = 4;
  task.metrics = {{"prompt_level_strict_acc", "none", MetricInfo::Kind::kShare, true},
                  {"inst_level_strict_acc", "none", MetricInfo::Kind::kShare, true},
                  {"prompt_level_loose_acc", "none", MetricInfo::Kind::kShare, true},
                  {"inst_level_loose_acc", "none", MetricInfo::Kind::kShare, true}};
  task.settings = generation_settings(context.options, {});
  for (const DataItem& item : read_items(context, context.options.data, context.options.limit)) {
    Json doc = doc_of(item);
    read_ifeval_rules(doc, item.where);  // a row that cannot be scored is refused before the work
    task.items.push_back({item.where, std::move(doc), item.prompt, "",
                          prompt_tokens(context, item.prompt, item.where)});
  }
  task.run = [](const TaskRun& run) { run_generation(run, {}, score); };
  return task;
}

}  // namespace lewis
