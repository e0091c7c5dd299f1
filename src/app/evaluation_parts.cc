// A worker's share of an evaluation. It writes journals and nothing else: a later process, which
// finds all items in them, writes the results.
#include <algorithm>
#include <set>
#include <system_error>

#include "app/evaluation.h"
#include "base/current_error.h"
#include "base/error.h"
#include "eval/results/journal.h"
#include "io/workers.h"

namespace lewis {

namespace fs = std::filesystem;

std::vector<size_t> share_of(const std::vector<WorkUnit>& units, const MergePart& part,
                             uint64_t units_before) {
  std::vector<size_t> items;
  for (size_t u = 0; u < units.size(); ++u) {
    if ((units_before + u) % part.count != part.index) continue;
    for (size_t item = units[u].first; item < units[u].second; ++item) items.push_back(item);
  }
  return items;
}

namespace {

// A task on a model, of which this worker has some items.
struct SharedTask {
  const Evaluation& evaluation;
  const EvaluatedModel& model;
  const PreparedTask& task;
  const RunningModel& running;
  const std::vector<size_t>& share;

  std::string name() const { return fmt::format("{} {}", model.results.name, task.name); }
};

// False, with a note, when a living worker does the same share of the task.
bool claim_share(Worker& worker, const std::string& claim, const SharedTask& shared) {
  const fs::path folder = shared.evaluation.journals_of(shared.model);
  std::set<std::string> owners;
  if (const auto owner = worker.owner(claim)) owners.insert(*owner);
  const auto tick = [&] {
    shared.evaluation.run.progress({"waiting for other workers", "tasks", 0, 1});
  };
  for (const std::string& alive : worker.living(owners, tick)) owners.erase(alive);
  if (worker.claim(claim, owners)) return true;
  const std::string who = describe_worker(folder, worker.owner(claim).value_or("another worker"));
  shared.evaluation.run.note(
      fmt::format("{}: {} is at work on this part, which is left to it", shared.name(), who));
  return false;
}

// Returns how many items it has run. `later`: the items of the worker's share of what comes after
// the task, for `lewis status`.
uint64_t run_share(Worker& worker, const SharedTask& shared, uint64_t later) {
  const Evaluation& evaluation = shared.evaluation;
  const MergePart part = *evaluation.job.part;
  const fs::path folder = evaluation.journals_of(shared.model);
  const Json about = Evaluation::about(shared.model, shared.task, shared.running);
  const std::string claim =
      fmt::format("{}.{}-of-{}", JournalOfTask(shared.task, about).name, part.index, part.count);
  if (!claim_share(worker, claim, shared)) return 0;
  const auto known = finished_items(folder, shared.task, about);
  std::vector<size_t> missing;
  std::ranges::copy_if(shared.share, std::back_inserter(missing),
                       [&](size_t item) { return !known.contains(item); });
  if (!missing.empty()) {
    EvalJournal journal =
        EvalJournal::of_worker(folder, shared.task, about, worker.token(), missing.size() + later);
    run_items(
        shared.task, evaluation.task_model(shared.running), missing,
        [&](size_t item, const ItemResult& result) { journal.append(item, result); },
        evaluation.progress_of(shared.model, shared.task));
    journal.sync();
  }
  worker.release(claim);
  return missing.size();
}

using Shares = std::vector<std::vector<size_t>>;  // the items of each task

// The worker's share of all models.
std::vector<Shares> shares_of_models(const std::vector<EvaluatedModel>& models,
                                     const MergePart& part) {
  std::vector<Shares> shares(models.size());
  uint64_t units = 0;
  for (size_t m = 0; m < models.size(); ++m) {
    for (const auto& of_task : models[m].units) {
      shares[m].push_back(share_of(of_task, part, units));
      units += of_task.size();
    }
  }
  return shares;
}

uint64_t items_in(const Shares& shares) {
  uint64_t items = 0;
  for (const auto& of_task : shares) items += of_task.size();
  return items;
}

}  // namespace

void run_part(const Evaluation& evaluation, const std::vector<EvaluatedModel>& models,
              EvaluateResult& result) {
  const MergePart part = *evaluation.job.part;
  const std::vector<Shares> all = shares_of_models(models, part);
  for (const Shares& shares : all) result.part_items += items_in(shares);
  uint64_t later = result.part_items;
  for (size_t m = 0; m < models.size(); ++m) {
    const EvaluatedModel& model = models[m];
    const Shares& shares = all[m];
    if (items_in(shares) == 0) continue;  // the model need not be opened
    const auto running = evaluation.open(model);
    const fs::path folder = evaluation.journals_of(model);
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw file_error(folder, "cannot be made", error);
    Worker worker(folder, fmt::format("part {}/{}", part.index, part.count), {});
    for (size_t t = 0; t < model.tasks.size(); ++t) {
      if (shares[t].empty()) continue;
      later -= shares[t].size();
      result.part_items_run +=
          run_share(worker, {evaluation, model, *model.tasks[t], *running, shares[t]}, later);
    }
  }
}

}  // namespace lewis
