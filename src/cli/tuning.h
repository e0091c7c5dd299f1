// Finding the numbers that a recipe leaves open, by the answer loss of the merge on calibration
// text; the merges are never written.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cli/guidance.h"
#include "cli/running_model.h"
#include "eval/scores/intervals.h"
#include "recipe/tunable.h"
#include "tune/journal.h"

namespace lewis {

struct TuneOptions {
  size_t evaluations = 24;    // merges that are scored while searching
  uint64_t samples = 96;      // items of each calibration entry's data; 0: all
  double held_out = 1.0 / 3;  // share of them that the search does not see
  uint64_t seed = 0;          // of which those are
  bool plain_mean = false;    // objective: the mean loss, not relative to base and expert
  bool force = false;         // take data that is named as a test set
  GuidanceOptions guidance{};
};

// Answer losses by item, for each calibration entry.
using EntryLosses = std::vector<std::vector<double>>;

struct TuneReport {
  std::vector<double> values;  // of the recipe's ranges
  size_t evaluations = 0;      // merges that the search scored, those of the journal too
  size_t taken_over = 0;       // answers that the journal held
  double start_objective = 0, objective = 0;  // on the part that is fitted to
  // On the held-out part: of the base, of each entry's own expert, of the merge at the ranges'
  // starts and at the values.
  EntryLosses base, expert, start, found;
  PairedDifference gain;  // found - start of the objective there: below 0 is better
};

// The objective: the mean over entries of (loss - expert's) / (base's - expert's), so that 0 is as
// good as each expert and 1 as the base; or the plain mean of losses. Fitting and held-out parts
// are drawn from the first `samples` of the entry's own order of items; what the recipe calibrates
// on is fitted to. Deterministic, whatever the threads; answers go to the journal (may be null).
// Throws Error(kUsage): no calibration data, data named as a test set, parts that are empty, an
// expert that is no better than the base on its own text (unless plain_mean); kInterrupted by
// `progress`.
TuneReport tune(const TunableRecipe& recipe, const TuneOptions& options, TuneJournal* journal,
                Threads& threads, const ProgressFn& progress);

// What tune() refuses before any work.
void check_tuning(const TunableRecipe& recipe, const TuneOptions& options);

// Of all that decides the journal's answers.
std::string tuning_identity(const TunableRecipe& recipe, const TuneOptions& options);

// Whether a data file's name says that it is a test set: one of its words begins with "test".
bool is_named_test(const std::filesystem::path& data);

// Some items of a data file.
struct LossItems {
  CalibrationEntry text;      // data, format, fields
  std::vector<size_t> items;  // of the file; empty: all
};
// Their answer losses.
std::vector<double> answer_losses(const RunningModel& model, const LossItems& items,
                                  const ProgressFn& progress);

}  // namespace lewis
