#include "app/worker_plan.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "app/calibration_parts.h"
#include "app/guidance.h"
#include "app/run.h"
#include "app/tokenizers.h"
#include "base/error.h"
#include "io/checkpoint.h"
#include "io/disk.h"
#include "io/part_writer.h"
#include "merge/engine.h"

namespace lewis {

std::optional<std::filesystem::path> stored_weights(const Recipe& recipe) {
  std::optional<std::filesystem::path> found;
  for (size_t i = 0; i < recipe.models.size() && !found; ++i) {
    const RecipeModel& m = recipe.models[i];
    if (m.stage) {
      found = stored_weights(*m.stage);
    } else if (!m.folder.empty() && !m.far) {
      found = is_gguf_path(m.folder) ? m.folder : Checkpoint::open(m.folder).shard_paths().at(0);
    }
  }
  for (size_t i = 0; i < recipe.modules.size() && !found; ++i)
    found = stored_weights(*recipe.modules[i].recipe);
  return found;
}

namespace {

// Operations per second of a product as a forward pass has them, on all threads.
double measure_products(Threads& threads, ComputeType type) {
  constexpr int64_t kWidth = 2048, kRows = 512;
  const auto backend = make_cpu_backend(threads, type);
  const std::vector<std::byte> weight(kWidth * kWidth * 2);
  const std::vector<float> x(kRows * kWidth, 1.0F);
  std::vector<float> y(kRows * kWidth);
  const auto packed = backend->pack(DType::kBF16, weight.data(), kWidth, kWidth);
  backend->linear(*packed, {}, x.data(), kRows, y.data());  // the first one prepares
  const auto begin = std::chrono::steady_clock::now();
  backend->linear(*packed, {}, x.data(), kRows, y.data());
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  return 2.0 * kRows * kWidth * kWidth / std::max(1e-6, seconds.count());
}

struct Planner {
  const MergeJob& job;
  const Recipe& recipe;
  RunResources& run;
  WorkerPlan& plan;

  double disk_seconds(uint64_t read, uint64_t written) const {
    return std::max(static_cast<double>(read) / plan.read_speed,
                    static_cast<double>(written) / plan.write_speed);
  }
  void add_calibration() const;
  void add_merge(const MergePreview& preview) const;
};

// Every worker reads the models of which it has pieces.
void Planner::add_calibration() const {
  if (calibration_jobs(recipe).empty()) return;
  const auto costs = calibration_costs(recipe, job.guidance, run.threads, run.note);
  plan.operations_per_second = measure_products(
      run.threads,
      recipe.lewis->protocol == Protocol::kReference ? ComputeType::kF32 : job.guidance.compute);
  const CalibrationCut cut(costs, plan.workers);
  WorkerStep step{"calibrate", std::min<uint64_t>(plan.workers, cut.units().size()), 0, 0, 0, 0, 0};
  for (uint64_t part = 0; part < plan.workers; ++part) {
    double seconds = 0;
    uint64_t read = 0;
    for (const auto& [index, pieces] : cut.share(part)) {
      const CalibrationCost& cost = costs[index];
      uint64_t tokens = 0;
      for (const size_t piece : pieces) tokens += cost.piece_tokens[piece];
      step.memory = std::max(step.memory, cost.memory);
      const uint64_t weights = cost.bytes_read * (1 + tokens / kTokensOfBatch);
      read += weights;
      seconds += std::max(disk_seconds(weights, 0), cost.operations * static_cast<double>(tokens) /
                                                        static_cast<double>(cost.tokens) /
                                                        plan.operations_per_second);
    }
    step.bytes_read = std::max(step.bytes_read, read);
    step.seconds = std::max(step.seconds, seconds);
  }
  for (const CalibrationCost& cost : costs) {
    step.seconds_alone +=
        std::max(disk_seconds(cost.bytes_read, 0), cost.operations / plan.operations_per_second);
  }
  plan.steps.push_back(step);
}

void Planner::add_merge(const MergePreview& preview) const {
  const std::vector<ShardCost> shards = shard_costs(recipe,
                                                    {.shard_bytes = job.shard_bytes,
                                                     .seed = job.seed,
                                                     .tokenizers = change_tokenizer,
                                                     .gguf = open_gguf},
                                                    run.threads);
  std::vector<uint64_t> costs;
  for (const ShardCost& shard : shards) costs.push_back(shard.bytes + shard.bytes_read);
  const std::vector<uint64_t> parts = parts_of(costs, plan.workers);
  std::vector<ShardCost> shares(std::max<size_t>(1, std::min<size_t>(plan.workers, shards.size())));
  WorkerStep merge{"merge", shares.size(), preview.cost.peak_memory, 0, 0, 0, 0};
  ShardCost all;
  for (size_t s = 0; s < shards.size(); ++s) {
    for (ShardCost* sum : {&shares[parts[s]], &all}) {
      sum->bytes += shards[s].bytes;
      sum->bytes_read += shards[s].bytes_read;
    }
  }
  for (const ShardCost& share : shares) {
    merge.bytes_read = std::max(merge.bytes_read, share.bytes_read);
    merge.bytes_written = std::max(merge.bytes_written, share.bytes);
    merge.seconds = std::max(merge.seconds, disk_seconds(share.bytes_read, share.bytes));
  }
  merge.seconds_alone = disk_seconds(all.bytes_read, all.bytes);
  plan.shards = shards.size();
  plan.bytes_written = all.bytes;
  if (plan.workers > shards.size()) plan.shard_bytes_for_all = all.bytes / plan.workers;
  plan.steps.push_back(merge);
  const double check = disk_seconds(all.bytes, 0);
  plan.steps.push_back({"finish", 1, preview.cost.peak_memory, all.bytes, 0, check, check});
}

}  // namespace

WorkerPlan plan_workers(const MergeJob& job, uint64_t workers, uint64_t disk_speed,
                        const RunContext& context) {
  RunResources run(context);
  Recipe recipe = needed(job.recipe);
  if (workers == 0) throw usage_error("0 workers: expected 1 or more");
  if (job.no_guidance) recipe.lewis.reset();
  check_plan_settings(recipe);
  if (refines(recipe)) {
    throw usage_error(
        "{}: refine solves the layers of the whole merge, which is not cut into parts: leave out "
        "lewis.refine, or refine with lewis-mpi (docs/clusters.md) and merge in one process",
        recipe.file.string());
  }
  const MergePreview preview = preview_merge(recipe,
                                             {.shard_bytes = job.shard_bytes,
                                              .seed = job.seed,
                                              .max_memory = job.guidance.max_memory,
                                              .tokenizers = change_tokenizer,
                                              .gguf = open_gguf},
                                             run.threads);
  tell_all(run.note, preview.notes);
  WorkerPlan plan;
  plan.workers = workers;
  plan.threads = run.threads.count();
  plan.is_stated = disk_speed > 0;
  const auto folder = existing_folder(job.out.empty() ? recipe.file : job.out);
  const DiskSpeed disk =
      plan.is_stated ? DiskSpeed{static_cast<double>(disk_speed), static_cast<double>(disk_speed)}
                     : measure_disk(stored_weights(recipe).value_or(recipe.file), folder);
  plan.read_speed = disk.read;
  plan.write_speed = disk.write;
  const Planner planner{job, recipe, run, plan};
  planner.add_calibration();
  planner.add_merge(preview);
  plan.warnings = *run.notes;
  return plan;
}

}  // namespace lewis
