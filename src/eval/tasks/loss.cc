// Answer loss: the mean over items of the mean negative log-likelihood, in nats, of the answer's
// tokens given the prompt.
#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

ItemResult score(const TaskItem& item, std::span<const double> losses) {
  const double total = std::accumulate(losses.begin(), losses.end(), 0.0);
  ItemResult result;
  result.scores = {{mean_of(losses).mean}};
  result.response = -total;
  result.details = {{"prompt_tokens", item.tokens.prompt_tokens}, {"answer_tokens", losses.size()}};
  return result;
}

}  // namespace

PreparedTask prepare_loss(const TaskContext& context) {
  PreparedTask task;
  task.version = 1;
  task.in_passes = true;
  task.metrics = {{"answer_loss"}};
  task.settings = {{"format", context.options.format}};
  for (DataItem& item : read_items(context, context.options.data, context.options.limit)) {
    TokenSequence tokens = item_tokens(context, item, context.spec.max_positions);
    if (std::max<size_t>(tokens.prompt_tokens, 1) >= tokens.ids.size()) {
      throw input_error("{}: the item has no answer tokens to score", item.where);
    }
    task.items.push_back({item.where, doc_of(item), item.prompt, item.answer, std::move(tokens)});
  }
  task.run = [](const TaskRun& run) { run_losses(run, score); };
  return task;
}

}  // namespace lewis
