// Perplexity: exp of the mean negative log-likelihood of the tokens of documents. Documents longer
// than a window are scored in windows that move on by a stride; each token is scored once, in the
// first window that holds it, so with as much text before it as the window allows
// (https://huggingface.co/docs/transformers/perplexity).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

struct WindowSize {
  int64_t window = 0, stride = 0;
};

WindowSize window_size(const TaskContext& context) {
  const int64_t most = context.model.spec().max_positions;
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

struct Windows {
  std::vector<ScoredSequence> sequences;
  std::vector<std::string> where;  // the document's
};

void add_windows(std::span<const int32_t> ids, const DataItem& item, WindowSize size,
                 uint64_t limit, Windows& windows) {
  const auto window = static_cast<size_t>(size.window);
  const auto stride = static_cast<size_t>(size.stride);
  size_t scored = 1;  // tokens [1, scored) have their score; token 0 has nothing before it
  for (size_t begin = 0; scored < ids.size(); begin += stride) {
    if (limit && windows.sequences.size() == limit) return;
    const size_t end = std::min(begin + window, ids.size());
    windows.sequences.push_back({{ids.begin() + begin, ids.begin() + end}, scored - begin});
    windows.where.push_back(item.where);
    scored = end;
  }
}

Windows make_windows(const TaskContext& context) {
  const WindowSize size = window_size(context);
  Windows windows;
  for (const DataItem& item : read_items(context, context.options.data)) {
    const TokenSequence tokens = item_tokens(context, item, std::numeric_limits<int64_t>::max());
    if (tokens.ids.size() < 2) {
      throw input_error("{}: a document of {} tokens has none to score", item.where,
                        tokens.ids.size());
    }
    add_windows(tokens.ids, item, size, context.options.limit, windows);
  }
  return windows;
}

}  // namespace

TaskResult run_perplexity(const TaskContext& context) {
  const Windows windows = make_windows(context);
  const auto losses = token_losses(context.model, windows.sequences, context.progress);
  TaskResult result;
  result.samples = Json::array();
  Metric metric{"perplexity", false, {}, {}, {}};
  double total = 0;
  size_t tokens = 0;
  for (size_t i = 0; i < losses.size(); ++i) {
    metric.values.push_back(mean_of(losses[i]).mean);
    total = std::accumulate(losses[i].begin(), losses[i].end(), total);
    tokens += losses[i].size();
    result.samples.push_back({{"index", i},
                              {"where", windows.where[i]},
                              {"tokens", losses[i].size()},
                              {"loss", metric.values.back()}});
  }
  metric.headline = std::exp(total / static_cast<double>(tokens));
  result.metrics.push_back(std::move(metric));
  return result;
}

}  // namespace lewis
