// Refinement from end to end for a recipe: experts, texts, prior, and the refined tensors.
#pragma once

#include <filesystem>
#include <memory>

#include "base/progress.h"
#include "cli/guidance.h"
#include "refine/refine.h"

namespace lewis {

struct RefinementOptions {
  std::filesystem::path scratch;  // see RefineOptions
  bool resume = false;
  uint64_t seed = 0;        // of the merge's random masks
  uint64_t max_memory = 0;  // bytes; 0: no limit
};

struct Refinement {
  std::shared_ptr<const InputModel> refined;  // for OpenOptions and MergeOptions
  RefineReport report;
  std::shared_ptr<RefineJournal> journal;  // its folder goes with the last of both
};

// What lewis.refine asks for; `recipe` has its densities already (guide). Error(kInput) where the
// tokenizers of an expert and of the merge differ.
Refinement run_refinement(const Recipe& recipe, const RefinementOptions& options, Threads& threads,
                          const ProgressFn& progress);

// What run_refinement would take (refine_cost); `recipe` needs no densities yet.
RefineCost refinement_cost(const Recipe& recipe, uint64_t seed, uint64_t max_memory,
                           Threads& threads);

// One line for people about what lewis.refine will do: method, prior, texts, what is held out.
std::string describe_refinement(const Recipe& recipe);

// A model as the command line names it, ready to run: a folder, or a recipe, guided and refined as
// it asks for, which is merged while it is read. Up to 256 MiB of merged tensors stay in memory.
std::unique_ptr<RunningModel> open_named(const std::filesystem::path& path, bool needs_tokenizer,
                                         const GuidanceOptions& guidance, Threads& threads,
                                         const ProgressFn& progress);

// The same of a recipe in memory (RecipeModel::stage), or of any other model of a recipe.
std::unique_ptr<RunningModel> open_named(const RecipeModel& model, bool needs_tokenizer,
                                         const GuidanceOptions& guidance, Threads& threads,
                                         const ProgressFn& progress);

// Lines for people about what became of the blocks.
std::vector<std::string> describe(const RefineReport& report);

}  // namespace lewis
