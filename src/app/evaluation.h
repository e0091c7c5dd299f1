// The models of an evaluation on its tasks, in one process or in a share of several
// (docs/clusters.md).
#pragma once

#include <lewis/lewis.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/evaluation_tasks.h"
#include "app/run.h"
#include "app/running_model.h"
#include "base/json.h"
#include "eval/results/results.h"

namespace lewis {

// A model of an evaluation, in the order of the job.
struct EvaluatedModel {
  std::filesystem::path path;
  ModelResults results;
  std::vector<std::shared_ptr<const PreparedTask>> tasks;
  std::vector<std::vector<WorkUnit>> units;    // per task
  std::vector<std::vector<ItemResult>> items;  // per task
};

struct Evaluation {
  const EvaluateJob& job;
  RunResources& run;
  const NoticeFn& tell;
  const RunningModel* expert = nullptr;  // of task kl
  std::string missing;                   // what --finish has not found, for people

  // Opens every model and writes its prompts, so that whatever is broken is refused before any
  // work.
  std::vector<EvaluatedModel> prepare(const std::vector<TaskOptions>& tasks) const;
  // All items on a model, or with job.finish those that are there.
  void run_model(EvaluatedModel& model);

  std::unique_ptr<RunningModel> open(const EvaluatedModel& model) const;
  TaskModel task_model(const RunningModel& running) const;
  // The folder of the model's journals.
  std::filesystem::path journals_of(const EvaluatedModel& model) const;
  // All that decides the results of a task's items on a model.
  static Json about(const EvaluatedModel& model, const PreparedTask& task,
                    const RunningModel& running);
  ProgressFn progress_of(const EvaluatedModel& model, const PreparedTask& task) const;

 private:
  std::map<size_t, ItemResult> finished(const EvaluatedModel& model, const PreparedTask& task,
                                        const RunningModel& running);
  void run_task_on(EvaluatedModel& model, const PreparedTask& task, const RunningModel& running);
};

// "demo__models__math" in the folder of the results.
std::filesystem::path folder_of(const EvaluateJob& job, const EvaluatedModel& model);

// Which items a worker runs: every n-th unit, counted over all models and tasks in their order, so
// that each worker gets as much of each of them.
std::vector<size_t> share_of(const std::vector<WorkUnit>& units, const MergePart& part,
                             uint64_t units_before);

// Runs the items of job.part that no journal has, each model and task unless a living worker does
// the same share. Sets result.part_items and result.part_items_run.
void run_part(const Evaluation& evaluation, const std::vector<EvaluatedModel>& models,
              EvaluateResult& result);

}  // namespace lewis
