// Refinement: a merge whose linear layers reproduce, on calibration text, what the experts' layers
// computed. Closed-form, block by block (docs/refine.md; RegMean,
// arXiv 2212.09849; RegMean++, 2508.03121).
#pragma once

#include <lewis/results.h>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "recipe/recipe.h"
#include "refine/block.h"
#include "refine/journal.h"

namespace lewis {

struct RefineOptions {
  RefineSettings settings;
  std::filesystem::path scratch;  // a folder for this run alone, see RefineJournal
  std::string plan;               // hash of all that decides the result
  bool resume = false;            // go on with what is in `scratch`
  bool keep = false;              // what is done stays in `scratch`, whatever happens
  uint64_t max_memory = 0;        // bytes; 0: no limit
  ProgressFn progress;            // weights
};

struct RefineReport {
  std::vector<BlockResult> blocks;  // without tensors; after the blocks the head, if it is refined
  int64_t layers = 0;               // of those that are blocks
  int64_t resumed = 0;              // blocks that an earlier run had finished
  uint64_t tokens = 0, held_out = 0;
};

// What refining would take, without doing any of it. Checks the models and the texts, and throws,
// as refine() does.
RefineCost refine_cost(const RefineModels& models,
                       std::span<const std::vector<TokenSequence>> texts,
                       const RefineSettings& settings, uint64_t max_memory);

// A finished journal; open_refined has its tensors: the linear layers of all blocks where
// refinement was kept, as stored. Everything else is the prior's. texts[k]: what shows the skill of
// expert k. Memory: one linear layer's inputs, outputs and system at a time, the block's tensors
// and the hidden states of all tokens, which go to files in `scratch` when max_memory asks for it.
// Same bytes for any number of threads, and after an interrupt. Throws Error(kResource), before any
// work, when max_memory is too little; Error(kInput): an expert is not of the prior's shape, a text
// is empty or too long, activations are not finite. After an error of code kInterrupted what is
// done stays in `scratch`. Of a mixture of experts a routed expert that sees fewer than 100
// tokens stays the prior's (a note of its block counts those); the others are solved on the tokens
// that the merged model, whose router is solved before, sends to them.
//
// Where several processes refine together (models.ranks), the first one alone writes: the others
// return null, and their report has no block that was finished before.
std::shared_ptr<RefineJournal> refine(const RefineModels& models,
                                      std::span<const std::vector<TokenSequence>> texts,
                                      const RefineOptions& options, RefineReport& report);

}  // namespace lewis
