// The seam for mechanisms that let the tokens of a sequence influence each other: attention, and
// those that carry a state from token to token.
// A mixer is one file in mixers/ and one row in mixers/mixers.cc. It names its linear layers (and
// with that what calibration, planning, refinement and importance matrices need to know), and it
// computes what lies between them, for whole sequences and for the next tokens of one.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/threads.h"
#include "compute/backend.h"
#include "model/block_builder.h"

namespace lewis {

class ConfigReader;

// The memory of one sequence in one layer while tokens are generated: keys and values, a
// recurrent state, the last inputs of a convolution.
class MixerState {
 public:
  virtual ~MixerState() = default;
};

// Consecutive rows that belong to one sequence.
struct MixedRows {
  int64_t first_row = 0, rows = 0;
  int64_t first_position = 0;   // of the first row in its sequence
  MixerState* state = nullptr;  // null: the rows are the whole sequence
};

// A stage that is not the mixer's own: mix() of attention makes of the hidden states what Gemma 4's
// router reads. Its own tensor, router.scale, is the last but those of the router.
inline constexpr int kRouterInput = 900;

struct MixCall {
  const ModelSpec& spec;
  int64_t layer = 0;
  int stage = 0;                            // MixStep::stage
  std::span<const std::vector<float>> own;  // the own tensors, in the order of describe()
  std::span<const MixedRows> sequences;     // one after the other, all rows
  int64_t rows = 0;
  std::span<float* const> in;   // [rows, width] each, in the order of the step; may be overwritten
  std::span<float* const> out;  // the same; they overlap with nothing
  Backend& backend;
  Threads& threads;
  std::string_view model;  // its folder, for messages
};

// Immutable. A sequence's result depends neither on the other sequences nor on the number of
// threads.
class Mixer {
 public:
  virtual ~Mixer() = default;

  // Adds the steps that lead from x [rows, hidden], the (normed) hidden states, to what is added to
  // the hidden states, [rows, hidden], which it returns.
  virtual Value describe(BlockBuilder& block, Value x) const = 0;
  // Computes one MixStep. Where a sequence has a state, its rows continue the tokens that the state
  // holds, and mix() adds them to the state.
  virtual void mix(const MixCall& call) const = 0;
  // The state of a layer before the first token of a sequence.
  virtual std::unique_ptr<MixerState> new_state(const ModelSpec& spec, int64_t layer) const = 0;
  // Values per row that mix() works in besides its inputs and outputs.
  virtual int64_t working_values(const ModelSpec&, ComputeType) const { return 0; }
  // Values that the state of a layer grows by with each token.
  virtual int64_t state_values(const ModelSpec&, int64_t /*layer*/) const { return 0; }
  // Whether both do the same: they are of one kind and have the same settings.
  virtual bool equals(const Mixer& other) const { return this == &other; }
};

// How llama.cpp calls a linear layer in its importance matrices. `module` is what follows
// "layers.3." in lewis, `ggml` what stands between "blk.3." and ".weight"; `fused` is what a GGUF
// model has instead where the weights of one input are one tensor.
struct GgmlName {
  std::string_view module, ggml, fused;
};

// A row of the table in mixers.cc.
struct MixerRow {
  std::string_view name;
  // For the layers of a model with this config.json: reads the settings that only the mixer has.
  MixerPtr (*make)(const ConfigReader& config);
  std::span<const GgmlName> ggml_names;
};
std::span<const MixerRow* const> mixer_rows();
// Error(kFailed) where no row has that name.
MixerPtr make_mixer(std::string_view name, const ConfigReader& config);

}  // namespace lewis
