// Refinement from end to end for a recipe: experts, texts, prior, and the refined tensors.
#pragma once

#include <filesystem>
#include <memory>

#include "app/guidance.h"
#include "base/progress.h"
#include "refine/refine.h"

namespace lewis {

struct RefinementOptions {
  std::filesystem::path scratch;  // see RefineOptions
  bool resume = false;
  uint64_t seed = 0;        // of the merge's random masks
  uint64_t max_memory = 0;  // bytes; 0: no limit
  // Processes that refine together: what is done stays in `scratch`, whatever happens. Null: this
  // one is alone.
  const Communicator* ranks = nullptr;
};

// The model and the journal are null in all processes but the first of several.
struct Refinement {
  std::shared_ptr<const InputModel> refined;  // for OpenOptions and MergeOptions
  std::vector<RefineReport> passes;  // of each pass over all blocks; one unless more are asked for
  // Their folders are removed with the last owner.
  std::vector<std::shared_ptr<RefineJournal>> journals;
  void keep() const {
    for (const auto& journal : journals) {
      if (journal) journal->keep();
    }
  }
};

// Refines as lewis.refine asks; `recipe` has its densities already (guide). Error(kInput) where the
// tokenizers of an expert and of the merge differ. `note` gets the notes on experts and texts.
Refinement run_refinement(const Recipe& recipe, const RefinementOptions& options, Threads& threads,
                          const ProgressFn& progress, const NoteFn& note = {});

// The cost of run_refinement (refine_cost); `recipe` needs no densities yet.
RefineCost refinement_cost(const Recipe& recipe, uint64_t seed, uint64_t max_memory,
                           Threads& threads, const NoteFn& note = {});

// One line for people that describes lewis.refine: method, prior, texts, what is held out.
std::string describe_refinement(const Recipe& recipe);

// Opens a model of a recipe, or one that a user names (model_in), ready to run. A recipe is guided
// and refined as it asks, and merged while it is read. Up to 256 MiB of merged tensors stay in
// memory, and at most a quarter of guidance.max_memory. `note` gets the notes on all of its models
// and texts.
std::unique_ptr<RunningModel> open_named(const RecipeModel& model, bool needs_tokenizer,
                                         const GuidanceOptions& guidance, Threads& threads,
                                         const ProgressFn& progress, const NoteFn& note = {});

// open_named in two steps, for a model that is opened more than once: the first guides and refines.
// Refined tensors lie in a folder of their own, which goes with the last copy of this.
struct PreparedModel {
  RecipeModel model;                          // guided
  std::shared_ptr<const InputModel> refined;  // null where nothing is refined
};
PreparedModel prepare_named(const RecipeModel& model, const GuidanceOptions& guidance,
                            Threads& threads, const ProgressFn& progress, const NoteFn& note = {});
// Its tensors, merged while they are read; and all of it, ready to run.
InputModel open_prepared_tensors(const PreparedModel& prepared, const GuidanceOptions& guidance,
                                 const Threads& threads);
std::unique_ptr<RunningModel> open_prepared(const PreparedModel& prepared, bool needs_tokenizer,
                                            const GuidanceOptions& guidance, Threads& threads);

// The results of all blocks as lines for people.
std::vector<std::string> describe(const Refinement& refinement);

}  // namespace lewis
