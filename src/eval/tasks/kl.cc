// The distance of a model from an expert: KL(expert || model) in nats, the mean over positions. The
// texts are answers given their prompts, or whole texts in windows, as in the tasks loss and
// perplexity.
#include "base/error.h"
#include "eval/tasks/task.h"

namespace lewis {
namespace {

ItemResult score(const TaskItem&, std::span<const double> divergences) {
  const Mean mean = mean_of(divergences);
  ItemResult result;
  result.scores = {{mean.mean, static_cast<double>(mean.items)}};
  result.response = mean.mean;
  result.details = {{"tokens", mean.items}};
  return result;
}

void run_kl(const TaskRun& run) {
  if (!run.model.expert) throw failed_error("task kl: there is no expert");
  const PassFn pass = [&](std::span<const ScoredSequence> sequences, const ProgressFn& progress) {
    return token_divergences(run.model.transformer, *run.model.expert, sequences, progress);
  };
  run_passes(run, pass, score);
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
