// Answer loss: the mean over items of the mean negative log-likelihood, in nats, of the answer's
// tokens given the prompt.
#include "base/error.h"
#include "eval/tasks/task.h"

namespace lewis {

TaskResult run_loss(const TaskContext& context) {
  std::vector<DataItem> items = read_items(context, context.options.data);
  if (context.options.limit && items.size() > context.options.limit) {
    items.resize(context.options.limit);
  }
  std::vector<ScoredSequence> sequences;
  for (const DataItem& item : items) {
    TokenSequence tokens = item_tokens(context, item, context.model.spec().max_positions);
    // Nothing comes before the first token of all, so it cannot be scored.
    const size_t first = std::max<size_t>(tokens.prompt_tokens, 1);
    if (first >= tokens.ids.size()) {
      throw input_error("{}: the item has no answer tokens to score", item.where);
    }
    sequences.push_back({std::move(tokens.ids), first});
  }
  const auto losses = token_losses(context.model, sequences, context.progress);
  TaskResult result;
  result.samples = Json::array();
  Metric metric{"answer_loss", false, {}, {}, {}};
  for (size_t i = 0; i < items.size(); ++i) {
    metric.values.push_back(mean_of(losses[i]).mean);
    result.samples.push_back({{"index", i},
                              {"where", items[i].where},
                              {"prompt_tokens", sequences[i].first_scored},
                              {"answer_tokens", losses[i].size()},
                              {"answer_loss", metric.values.back()}});
  }
  result.metrics.push_back(std::move(metric));
  return result;
}

}  // namespace lewis
