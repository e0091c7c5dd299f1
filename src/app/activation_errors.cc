#include "app/activation_errors.h"

#include <cmath>

#include "base/error.h"

namespace lewis {
namespace {

LayerValues errors_of(const Statistics& statistics) {
  LayerValues values;
  for (const auto& [module, change] : statistics.output_changes)
    values[module] = change.base > 0 ? std::sqrt(change.changed / change.base) : 0;
  return values;
}

// The items that follow those of the calibration.
CalibrationEntry held_out(CalibrationEntry entry) {
  if (entry.samples == 0) {
    throw input_error("{}: all items calibrate, none is held out; set samples in lewis.calibration",
                      entry.data.string());
  }
  entry.skip = entry.samples;
  return entry;
}

}  // namespace

std::vector<ModuleValues> activation_errors(const Recipe& recipe, const RecipeModel& merged,
                                            const GuidanceOptions& options, Threads& threads,
                                            const ProgressFn& progress, const NoteFn& note) {
  if (merged.stage && refines(*merged.stage)) {
    throw usage_error("{}: activations of a refined merge are compared when it is written",
                      merged.model);
  }
  std::vector<ModuleValues> errors;
  for (const CalibrationEntry& entry :
       recipe.lewis ? recipe.lewis->calibration : std::vector<CalibrationEntry>{}) {
    if (entry.has_statistics()) continue;
    const CalibrationJob job = {.model = merged, .text = held_out(entry)};
    const RecipeModel& expert = recipe.models.at(entry.index);
    const CalibrationResult result = run_comparison(job, expert, options, threads, progress);
    tell_all(note, result.notes);
    errors.push_back({expert.model, errors_of(result.statistics)});
  }
  if (errors.empty()) {
    throw usage_error(
        "{}: no lewis.calibration with text: it says which experts to compare on what",
        recipe.file.string());
  }
  return errors;
}

}  // namespace lewis
