// How far a model is from an expert: KL(expert || model) in nats, the mean over positions. Of
// answers given their prompts, or of whole texts in windows, as the tasks loss and perplexity have
// them.
#include <algorithm>

#include "base/error.h"
#include "eval/tasks/task.h"
#include "eval/token_loss.h"

namespace lewis {
namespace {

void run_kl(const TaskRun& run) {
  if (!run.model.expert) throw failed_error("task kl: there is no expert");
  std::vector<ScoredSequence> sequences;
  for (const size_t item : run.items) {
    const TokenSequence& tokens = run.task.items[item].tokens;
    sequences.push_back({tokens.ids, std::max<size_t>(tokens.prompt_tokens, 1)});
  }
  for (const auto& [first, last] : scoring_passes(run.model.transformer, sequences)) {
    const auto divergences =
        token_divergences(run.model.transformer, *run.model.expert,
                          std::span(sequences).subspan(first, last - first), {});
    for (size_t i = first; i < last; ++i) {
      const Mean mean = mean_of(divergences[i - first]);
      ItemResult result;
      result.scores = {{mean.mean, static_cast<double>(mean.items)}};
      result.response = mean.mean;
      result.details = {{"tokens", mean.items}};
      run.done(run.items[i], result);
      if (run.progress) run.progress({"comparing", "items", i + 1, run.items.size()});
    }
  }
}

}  // namespace

PreparedTask prepare_kl(const TaskContext& context) {
  if (context.options.expert.empty()) {
    throw usage_error("task kl: compared with which model? Give --kl-to MODEL");
  }
  PreparedTask task =
      context.options.format == "text" ? prepare_perplexity(context) : prepare_loss(context);
  task.version = 1;
  task.metrics = {{"kl"}};
  task.settings["expert"] = context.options.expert;
  task.run = run_kl;
  return task;
}

}  // namespace lewis
