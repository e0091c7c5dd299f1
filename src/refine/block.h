// Refining one block (or, as the last one, an untied head): the experts' streams and the merged
// stream go through it together, layer by layer, and every linear layer of the merged model is
// solved before the merged stream takes it (docs/refine.md).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/transformer.h"
#include "recipe/recipe.h"
#include "refine/choice.h"
#include "refine/communicator.h"
#include "refine/hidden_states.h"
#include "refine/text.h"

namespace lewis {

// All of the same shape. Experts in the order of the texts.
struct RefineModels {
  const Transformer& prior;  // what the recipe merges, before refinement
  std::vector<const Transformer*> experts;
  const Transformer* base = nullptr;        // the prior is it plus task vectors; null: unknown
  const Communicator& ranks = kOneProcess;  // who computes; must live as long
};

// The two streams between two blocks, [rows, hidden] each: what expert k makes of its own text, and
// what the merged model so far makes of all texts; with the keys and values that the blocks before
// lend to later ones (lent_keys.h).
struct StreamPair {
  HiddenStates experts, merged;
};

// The share of an expert model's choices of routed experts that the merged model makes, too, for
// the same tokens: those that are held out, or all. `before`: by the router as merged.
struct RouterChoices {
  double before = 0, after = 0;
};

// The outcome of a block. Its errors are || merged - expert ||^2 / || expert ||^2 of the block's
// output on the held-out tokens (on all tokens where none are held out), the mean over the experts.
struct BlockResult {
  std::map<std::string, std::vector<std::byte>, std::less<>> tensors;  // refined, as stored
  double error_solved = 0, error_prior = 0;  // error_prior is 0 where nothing is held out
  bool kept_prior = false;                   // it was better: no tensors
  std::vector<ChoiceRecord> choices;         // where several numbers were compared
  std::vector<RouterChoices> routers;        // per expert, in a mixture
  std::vector<std::string> notes;            // what a reader should know; one line each
  double seconds = 0;                        // that it took
};

// Whether the head is refined after the blocks, as "layer" spec.layers: it is no embedding.
bool refines_head(const RefineModels& models, const RefineSettings& settings);

// `step` is called with the weights that were solved since the last call. Bytes of memory beyond
// the streams: block_memory.
BlockResult refine_block(const RefineModels& models, const TextRows& text,
                         const RefineSettings& settings, int64_t layer, const StreamPair& in,
                         StreamPair& out, const std::function<void(uint64_t)>& step);

// The most that refine_block takes besides the streams, with the result of the block before.
uint64_t block_memory(const RefineModels& models, const TextRows& text,
                      const RefineSettings& settings);

}  // namespace lewis
