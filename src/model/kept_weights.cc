#include "model/kept_weights.h"

#include <algorithm>

#include "base/error.h"
#include "base/human.h"
#include "model/mixer.h"

namespace lewis {
namespace {

// Bytes of one block as it is stored.
struct BlockBytes {
  uint64_t every = 0;   // that every token uses
  uint64_t expert = 0;  // of one routed expert; all have one shape
};

std::vector<BlockBytes> block_bytes(const Transformer& model) {
  std::vector<BlockBytes> blocks;
  for (int64_t layer = 0; layer < model.spec().layers; ++layer) {
    BlockBytes& block = blocks.emplace_back();
    for (const LinearLayer& linear : linear_layers(model.spec(), layer)) {
      if (linear.expert < 0) block.every += model.stored_bytes(linear);
      if (linear.expert == 0) block.expert += model.stored_bytes(linear);
    }
  }
  return blocks;
}

// The program, the model's ends, the values of a step, what prompts keep, and logits. Keys and
// values lie in vectors that grow by doubling.
uint64_t other_bytes(const Transformer& model, const GenerationSize& size) {
  constexpr uint64_t kProgram = 64'000'000;
  const ModelSpec& spec = model.spec();
  int64_t values = 0;
  for (int64_t layer = 0; layer < spec.layers; ++layer)
    values += spec.layer[static_cast<size_t>(layer)].mixer->state_values(spec, layer);
  const auto floats = static_cast<uint64_t>(2 * size.positions * values + size.rows * spec.hidden +
                                            size.prompts * spec.vocab);
  return kProgram + model.stored_ends_bytes() + model.activation_bytes(size.rows) + 4 * floats;
}

}  // namespace

KeptWeights keep_weights(const Transformer& model, const GenerationSize& size, uint64_t limit) {
  const std::vector<BlockBytes> blocks = block_bytes(model);
  const ExpertsSpec& experts = model.spec().experts;
  const auto count = static_cast<uint64_t>(experts.count);
  KeptWeights kept;
  uint64_t every = 0, expert = 0, largest = 0;  // of all blocks, an expert each; what one reads
  for (const BlockBytes& block : blocks) {
    every += block.every;
    expert += block.expert;
    largest = std::max(largest, block.every + 2 * block.expert);
  }
  kept.all_bytes = every + count * expert;
  const uint64_t other = limit ? other_bytes(model, size) + model.block_reading_bytes() : 0;
  if (limit && limit < other + largest) {
    throw resource_error("{}: --max-memory {}: generation needs at least {} bytes",
                         model.source().label(), limit, other + largest);
  }
  const uint64_t room = limit ? limit - other : kept.all_bytes;
  if (kept.all_bytes <= room) {
    kept.layers = model.spec().layers;
    kept.experts = experts.count;
    kept.bytes = kept.all_bytes;
    return kept;
  }
  // A block, or an expert, that does not stay is in memory while it is used, and the next expert.
  for (const BlockBytes& block : blocks) {
    if (kept.bytes + block.every + largest > room) break;
    kept.bytes += block.every;
    ++kept.layers;
  }
  for (size_t i = static_cast<size_t>(kept.layers); i < blocks.size(); ++i)
    kept.step_bytes += blocks[i].every;
  if (expert == 0) return kept;
  if (kept.layers == model.spec().layers)
    kept.experts = static_cast<int64_t>(std::min(count, (room - kept.bytes - largest) / expert));
  kept.bytes += static_cast<uint64_t>(kept.experts) * expert;
  kept.step_bytes += expert * static_cast<uint64_t>(std::min(experts.count - kept.experts,
                                                             size.prompts * experts.chosen));
  return kept;
}

std::string reading_note(const std::string& model, const KeptWeights& kept, int64_t prompts,
                         double seconds) {
  if (kept.all()) return "";
  std::string note = fmt::format(
      "{}: --max-memory holds {} of {} of weights; generation reads the others whenever they are "
      "used, at most {} for a token of each of {} prompts",
      model, human_bytes(kept.bytes), human_bytes(kept.all_bytes), human_bytes(kept.step_bytes),
      prompts);
  if (kept.bytes == 0 || seconds <= 0) return note;
  const double speed = static_cast<double>(kept.bytes) / seconds;  // bytes per second
  return note + fmt::format(": {} at {}/s, as fast as it read those that it holds",
                            human_seconds(static_cast<double>(kept.step_bytes) / speed),
                            human_bytes(static_cast<uint64_t>(speed)));
}

}  // namespace lewis
