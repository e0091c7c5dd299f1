// LEWIS from end to end for a recipe: statistics (from the cache or computed), then densities.
#pragma once

#include <lewis/options.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/running_model.h"
#include "base/notes.h"
#include "base/progress.h"
#include "base/threads.h"
#include "calibrate/cache.h"
#include "calibrate/statistics.h"
#include "compute/backend.h"
#include "plan/plan.h"
#include "recipe/recipe.h"

namespace lewis {

// One model and the text that it is calibrated on.
struct CalibrationJob {
  RecipeModel model;
  CalibrationEntry text;
  Protocol protocol = Protocol::kClean;
  uint64_t skip_first = 0;
  bool magnitudes = false;  // see CalibrateOptions
  // The model whose names of tensors count, where others only spell them in another way.
  std::optional<RecipeModel> spelled_like{};
};

struct CalibrationResult {
  Statistics statistics;
  std::filesystem::path file;  // in the cache
  bool reused = false;
  std::vector<std::string> notes{};  // of the model (InputModel::notes), and of the text
};

// The token sequences of a calibration entry, as that model reads them. `reference`: as the paper's
// protocol feeds them. `note`: see DataOptions::note.
std::vector<TokenSequence> text_of(const CalibrationEntry& text, const RunningModel& model,
                                   bool reference = false, const NoteFn& note = {});

// Opens a model with the names of tensors that `main` has, where they differ only in spelling.
InputModel opened_like(const RecipeModel& model, const RecipeModel& main, Threads& threads);

// A job's text as its model reads it.
struct CalibrationTokens {
  std::vector<std::vector<int32_t>> sequences;
  std::vector<std::string> notes;  // on the text
};

// Runs the job, or takes its result from the cache when nothing that it depends on has changed.
// `tokens`: of the job, where they are known; null: they are read here.
CalibrationResult run_calibration(const CalibrationJob& job, const GuidanceOptions& options,
                                  Threads& threads, const ProgressFn& progress,
                                  const CalibrationTokens* tokens = nullptr);

// Pieces go through a model together until they have so many tokens: then reading the weights takes
// a small share of the time, and a worker that is killed loses little.
inline constexpr uint64_t kTokensOfBatch = 2048;
// Measures some pieces of a job (calibrate/pieces.h), which ascend, and calls `finished` for each
// when its batch is there. Not for the protocol reference.
void run_pieces(const CalibrationJob& job, const CalibrationTokens& tokens,
                const std::vector<size_t>& pieces, const GuidanceOptions& options, Threads& threads,
                const ProgressFn& progress,
                const std::function<void(size_t piece, Statistics)>& finished);

// Reads a statistics file or an importance matrix (calibrate/imatrix.h) of `model`.
Statistics read_any_statistics(const std::filesystem::path& file, const TensorSource& model);

// The statistics of each calibrated model on its own text: from the cache, else measured, or of the
// file that the recipe gives. None for a recipe without calibration.
std::vector<Statistics> expert_statistics(const Recipe& recipe, const GuidanceOptions& options,
                                          Threads& threads, const ProgressFn& progress,
                                          const NoteFn& note = {});

// The output changes from `base` to the job's model (calibrate/output_change.h), in the same way.
CalibrationResult run_comparison(const CalibrationJob& job, const RecipeModel& base,
                                 const GuidanceOptions& options, Threads& threads,
                                 const ProgressFn& progress);

// Every job of the recipe's lewis: section, not those of its stages: each entry's model and the
// base on the entry's text. Entries with statistics need none.
std::vector<CalibrationJob> calibration_jobs(const Recipe& recipe);

// What a calibration will take, by the headers of its model and by its text.
struct CalibrationCost {
  std::string model, data;  // as the recipe names them
  uint64_t sequences = 0, tokens = 0;
  uint64_t memory = 0;      // bytes, within GuidanceOptions::max_memory
  uint64_t bytes_read = 0;  // of weights, by every process that takes part
  double operations = 0;    // of floating point: two per weight and token that goes through it
  // By piece (calibrate/pieces.h). The protocol reference has one.
  std::vector<uint64_t> piece_tokens;
  StatisticsKey key;  // of the result
  std::shared_ptr<const CalibrationTokens> text;
};
// Of calibration_jobs(recipe), in its order.
std::vector<CalibrationCost> calibration_costs(const Recipe& recipe, const GuidanceOptions& options,
                                               Threads& threads, const NoteFn& note);

// Reads every text that guide() calibrates on, with each model that it is for, only to tell the
// notes on models and texts that guide() tells.
void read_texts(const Recipe& recipe, const GuidanceOptions& options, Threads& threads,
                const NoteFn& note);

struct Guidance {
  Recipe recipe;                 // with densities
  std::vector<ModelPlan> plans;  // one for each calibrated model
};
// A recipe without calibration comes back as it is, without plans. Its stages are guided as well.
// `note` gets what CalibrationResult::notes holds.
Guidance guide(const Recipe& recipe, const GuidanceOptions& options, Threads& threads,
               const ProgressFn& progress, const NoteFn& note = {});
// "f32" or "bf16": the type that the statistics were computed in; empty if none were computed. The
// reference protocol always uses float32.
std::string calibration_type(const Guidance& guidance, const Recipe& recipe,
                             const GuidanceOptions& options);
// The model; if it is a recipe (model_in), that recipe is guided.
RecipeModel guided(RecipeModel model, const GuidanceOptions& options, Threads& threads,
                   const ProgressFn& progress, const NoteFn& note = {});

}  // namespace lewis
