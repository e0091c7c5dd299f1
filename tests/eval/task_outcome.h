// A task prepared and run on a model that a test holds.
#pragma once

#include <vector>

#include "eval/tasks.h"
#include "test_model.h"

namespace lewis {

struct TaskOutcome {
  PreparedTask task;
  std::vector<ItemResult> items;

  std::vector<double> values(size_t metric = 0) const {
    std::vector<double> result;
    for (const ItemScore& s : scores_of(items, metric)) result.push_back(s.value);
    return result;
  }
  Mean summary(size_t metric = 0) const { return mean_of(scores_of(items, metric)); }
};

inline TaskOutcome run_whole(const TaskOptions& options, const TestModel& model,
                             const Tokenizer* tokenizer) {
  const std::vector<int32_t> stop_ids = tokenizer ? tokenizer->stop_ids() : std::vector<int32_t>{};
  PreparedTask task = prepare_task(options, model.transformer.spec(), tokenizer);
  std::vector<ItemResult> items =
      run_task(task, {model.transformer, tokenizer, stop_ids}, {}, {}, {});
  return {std::move(task), std::move(items)};
}

}  // namespace lewis
