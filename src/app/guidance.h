// LEWIS from end to end for a recipe: statistics (from the cache or computed), then densities.
#pragma once

#include <lewis/options.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "app/running_model.h"
#include "base/notes.h"
#include "base/progress.h"
#include "base/threads.h"
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
  bool skip_first_token = false;
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

// Runs the job, or takes its result from the cache when nothing that it depends on has changed.
CalibrationResult run_calibration(const CalibrationJob& job, const GuidanceOptions& options,
                                  Threads& threads, const ProgressFn& progress);

// The output changes from `base` to the job's model (calibrate/output_change.h), in the same way.
CalibrationResult run_comparison(const CalibrationJob& job, const RecipeModel& base,
                                 const GuidanceOptions& options, Threads& threads,
                                 const ProgressFn& progress);

// Every job of the recipe's lewis: section, not those of its stages: each entry's model and the
// base on the entry's text. Entries with statistics need none.
std::vector<CalibrationJob> calibration_jobs(const Recipe& recipe);

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
