// LEWIS from end to end for a recipe: statistics (from the cache or computed), then densities.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "calibrate/statistics.h"
#include "plan/plan.h"
#include "recipe/recipe.h"

namespace lewis {

// What one model is calibrated on.
struct CalibrationJob {
  RecipeModel model;
  CalibrationEntry text;
  Protocol protocol = Protocol::kClean;
  bool skip_first_token = false;
};

struct CalibrationResult {
  Statistics statistics;
  std::filesystem::path file;  // in the cache
  bool reused = false;
};

// LEWIS_CACHE, else XDG_CACHE_HOME/lewis, else HOME/.cache/lewis.
std::filesystem::path default_cache_folder();

// Runs the job, or takes its result from the cache when nothing that it depends on has changed.
// An empty cache folder means: neither look nor keep.
CalibrationResult run_calibration(const CalibrationJob& job, const std::filesystem::path& cache,
                                  Threads& threads, const ProgressFn& progress);

// Every job of the recipe's lewis: section, not those of its stages: each entry's model and the
// base on the entry's text. Entries with statistics need none.
std::vector<CalibrationJob> calibration_jobs(const Recipe& recipe);

struct Guidance {
  Recipe recipe;                 // with densities
  std::vector<ModelPlan> plans;  // one for each calibrated model
};
// A recipe without calibration comes back as it is, without plans. Its stages are guided as well.
Guidance guide(const Recipe& recipe, const std::filesystem::path& cache, Threads& threads,
               const ProgressFn& progress);

}  // namespace lewis
