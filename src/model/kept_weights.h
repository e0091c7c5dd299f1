// Which weights generation keeps in memory, where not all of them fit.
#pragma once

#include <cstdint>
#include <string>

#include "model/transformer.h"

namespace lewis {

// The first `layers` blocks stay but for their routed experts, and of the experts of every block
// the first `experts` stay. The others are read whenever they are used.
struct KeptWeights {
  int64_t layers = 0, experts = 0;
  uint64_t bytes = 0, all_bytes = 0;  // of the blocks' weights: that stay, and all
  uint64_t step_bytes = 0;            // read for one token of each prompt, at most
  bool all() const { return bytes == all_bytes; }
};

// What a generation holds besides the blocks that stay: `rows` rows of a step through the blocks,
// `positions` tokens of all prompts together in the states, the ends of the model.
struct GenerationSize {
  int64_t rows = 0, positions = 0, prompts = 0;
};

// The most that `limit` bytes hold (0: no limit): first what every token uses, then experts.
// Error(kResource) where they do not hold the model's ends and one block with two experts.
KeptWeights keep_weights(const Transformer& model, const GenerationSize& size, uint64_t limit);

// One line for the user: what is read again, and how long that takes if the weights that stay took
// `seconds` to read. "" where all stay.
std::string reading_note(const std::string& model, const KeptWeights& kept, int64_t prompts,
                         double seconds);

}  // namespace lewis
