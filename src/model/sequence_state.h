// The memory of one sequence during generation, so that the next token costs one row per layer.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "model/mixer.h"

namespace lewis {

class Transformer;

// One state per layer, made by the mixer of that layer.
class SequenceState {
 public:
  explicit SequenceState(const ModelSpec& spec) {
    for (int64_t i = 0; i < spec.layers; ++i)
      layers_.push_back(spec.layer[static_cast<size_t>(i)].mixer->new_state(spec, i));
  }

  MixerState& layer(int64_t layer) { return *layers_.at(static_cast<size_t>(layer)); }

 private:
  std::vector<std::unique_ptr<MixerState>> layers_;
};

// What layers lend to later ones while a whole sequence goes through the blocks, by model and
// layer: keys and values.
struct SequenceSide {
  std::map<std::pair<const Transformer*, int64_t>, std::unique_ptr<MixerState>> lent;
};

// For those who take the blocks of a sequence one at a time: what `layer` lent while a whole
// sequence went through it, [tokens, Mixer::state_values], and the same the other way round.
void read_lent(const SequenceSide& side, const Transformer& model, int64_t layer,
               std::span<float> rows);
void set_lent(SequenceSide& side, const Transformer& model, int64_t layer,
              std::span<const float> rows);

}  // namespace lewis
