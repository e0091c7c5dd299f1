// Finding the numbers that a recipe leaves open, by the answer loss of the merge on calibration
// text; the merges are never written.
#pragma once

#include <lewis/lewis.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/guidance.h"
#include "app/running_model.h"
#include "eval/scores/intervals.h"
#include "recipe/tunable.h"
#include "tune/journal.h"

namespace lewis {

// Answer losses by item, for each calibration entry.
using EntryLosses = std::vector<std::vector<double>>;

struct TuneReport {
  std::vector<double> values;  // of the recipe's ranges
  size_t evaluations = 0;      // merges that the search scored, those of the journal too
  size_t taken_over = 0;       // answers that the journal held
  double start_objective = 0, objective = 0;  // on the part that is fitted to
  // Losses on the held-out part: of the base, of each entry's own expert, and of the merge at the
  // starts of the ranges and at the values.
  EntryLosses base, expert, start, found;
  PairedDifference gain;  // found - start of the objective there: below 0 is better
  // Likewise, found - found with one value at its start; nothing where both are the same.
  std::vector<std::optional<PairedDifference>> worth;
};

// Searches until `evaluations` are done, or until a round over several values gains nothing that
// the held-out part shows (a note says so). The objective: the mean over entries of (loss -
// expert's) / (base's - expert's), so that 0 is as good as each expert and 1 as the base; or the
// plain mean of losses. Fitting and held-out parts are drawn from the first `samples` of the
// entry's own order of items; items that the recipe calibrates on are fitted to. The result does
// not depend on threads. Answers go to the journal, which may be null. `note` gets the notes on
// recipe, models and texts, before the search. Throws Error(kUsage): no calibration data, data
// named as a test set, parts that are empty, an expert that is no better than the base on its own
// text (unless plain_mean); kInterrupted by `progress`.
TuneReport tune(const TunableRecipe& recipe, const TuneOptions& options, TuneJournal* journal,
                Threads& threads, const ProgressFn& progress, const NoteFn& note = {});

// Throws what tune() throws before any work.
void check_tuning(const TunableRecipe& recipe, const TuneOptions& options);

// A hash of all that decides the journal's answers.
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
