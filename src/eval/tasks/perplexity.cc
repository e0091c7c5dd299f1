// Perplexity: exp of the mean negative log-likelihood of the tokens of documents. Documents longer
// than a window are scored in windows that move on by a stride; each token is scored once, in the
// first window that holds it, so with as much text before it as the window allows
// (https://huggingface.co/docs/transformers/perplexity).
#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/hash.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

struct WindowSize {
  int64_t window = 0, stride = 0;
};

WindowSize window_size(const TaskContext& context) {
  const int64_t most = context.spec.max_positions;
  const int64_t window = context.options.window.value_or(std::min<int64_t>(1024, most));
  const int64_t stride = context.options.stride.value_or(window / 2);
  if (window < 2 || window > most) {
    throw usage_error("perplexity: window {} is outside 2 to {}, the model's positions", window,
                      most);
  }
  if (stride < 1 || stride >= window) {
    throw usage_error("perplexity: stride {} is outside 1 to {}, one less than the window", stride,
                      window - 1);
  }
  return {window, stride};
}

void add_windows(std::span<const int32_t> ids, const DataItem& document, WindowSize size,
                 PreparedTask& task) {
  const auto window = static_cast<size_t>(size.window);
  const auto stride = static_cast<size_t>(size.stride);
  const uint64_t limit = task.options.limit;
  size_t scored = 1;  // tokens [1, scored) have their score; token 0 has nothing before it
  for (size_t begin = 0; scored < ids.size(); begin += stride) {
    if (limit && task.items.size() == limit) return;
    const size_t end = std::min(begin + window, ids.size());
    TaskItem item;
    item.where = document.where;
    item.tokens = {{ids.begin() + begin, ids.begin() + end}, scored - begin};
    item.doc = {{"document", document.line},
                {"first_token", scored},
                {"end", end},
                {"window_hash", hash_text(xxh3_64(std::as_bytes(std::span(item.tokens.ids))))}};
    task.items.push_back(std::move(item));
    scored = end;
  }
}

ItemResult score(const TaskItem&, std::span<const double> losses) {
  const double total = std::accumulate(losses.begin(), losses.end(), 0.0);
  ItemResult result;
  result.scores = {{mean_of(losses).mean, static_cast<double>(losses.size())}};
  result.response = -total;
  result.details = {{"tokens", losses.size()}};
  return result;
}

}  // namespace

PreparedTask prepare_perplexity(const TaskContext& context) {
  const WindowSize size = window_size(context);
  PreparedTask task;
  task.options = context.options;
  task.version = 1;
  task.in_passes = true;
  task.metrics = {{"perplexity", "none", MetricInfo::Kind::kExpMean}};
  task.settings = {
      {"format", context.options.format}, {"window", size.window}, {"stride", size.stride}};
  for (const DataItem& document : read_items(context, context.options.data)) {
    const TokenSequence tokens =
        item_tokens(context, document, std::numeric_limits<int64_t>::max());
    if (tokens.ids.size() < 2) {
      throw input_error("{}: a document of {} tokens has none to score", document.where,
                        tokens.ids.size());
    }
    add_windows(tokens.ids, document, size, task);
  }
  task.run = [](const TaskRun& run) { run_losses(run, score); };
  return task;
}

}  // namespace lewis
