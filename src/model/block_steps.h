// One transformer block as plain data: the steps that lead from the hidden states before a block to
// those after it. Whoever runs a block goes through these steps: the forward pass (run_block.cc),
// calibration and comparison (by its taps) and refinement (refine/). The list follows from
// ModelSpec; what happens between the tokens of a sequence is added by the layer's mixer (mixer.h).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/tensor.h"
#include "model/model_spec.h"

namespace lewis {

// The number of a value of a block: a matrix with one row per token, or, inside of a routed expert,
// with one row per token that is sent there.
using Value = int;
inline constexpr Value kStream = 0;  // the hidden states; only AddStep changes them
inline constexpr int kNoIndex = -1;  // instead of the index of a linear layer or norm

enum class LinearRole { kMixer, kGate, kUp, kDown, kRouter, kSharedSwitch };
inline constexpr int64_t kDense = -1, kShared = -2;  // values of LinearLayer::expert

// A linear layer of a block, and the tensor that holds it: its own, or rows of a fused one.
struct LinearLayer {
  std::string name;    // "model.layers.3.self_attn.q_proj", whether fused or not
  std::string module;  // whose input statistics are kept: name, "(...).self_attn.qkv_proj", or
                       // "(...).mlp.experts" for all routed experts
  std::string tensor;  // name of the stored weight
  Shape shape;         // of the whole tensor: [all rows, in], or [experts, rows, in]
  int64_t first_row = 0, out = 0, in = 0;  // rows of the tensor as one matrix of `in` columns
  std::string bias;                        // tensor, or "" ; its rows are those of the weight
  LinearRole role = LinearRole::kMixer;
  int64_t expert = kDense;
  Value input = kStream;  // the value that it reads; layers with the same one share statistics
};

// Whether calibration measures the inputs of a layer, and refinement solves it: all but routers.
inline bool is_measured(const LinearLayer& linear) { return linear.role != LinearRole::kRouter; }

// out = norm(in), row by row. `out` may be `in`. Without a norm (index kNoIndex) out has in's rows.
struct NormStep {
  int norm = kNoIndex;  // index into BlockSteps::norms
  Value in = kStream, out = kStream;
};

// Linear layers that share an input: each output = weight * in (+ bias).
struct LinearOutput {
  int linear = kNoIndex;  // index into BlockSteps::linears
  Value out = kStream;
};
struct LinearsStep {
  Value in = kStream;
  std::vector<LinearOutput> outputs;
};

// The layer's mixer computes new values from some others, sequence by sequence, and may overwrite
// those.
struct MixStep {
  int stage = 0;  // tells the mixer which of its computations this is
  std::vector<Value> in, out;
};

// out = activation(gate(in)) * up(in); without a gate activation(up(in)).
struct GatedStep {
  int gate = kNoIndex, up = kNoIndex;  // indices into BlockSteps::linears
  Value in = kStream, out = kStream;
};

// The linear layers of an expert: down(activation(gate(x)) * up(x)).
struct ExpertLinears {
  int gate = kNoIndex, up = kNoIndex, down = kNoIndex;
};

// out = the sum over the experts that the router chooses for a token, times their weights, + the
// shared expert times sigmoid(switch(in)). (A shared expert without a switch has steps of its own.)
struct ExpertsStep {
  Value in = kStream, out = kStream;
  Value routed_in = kStream;  // what the experts read: `in`, or another value
  int router = kNoIndex, shared_switch = kNoIndex;
  int correction = kNoIndex;  // of the router: index into BlockSteps::own
  int scales = kNoIndex;      // of each expert's weight, likewise
  std::vector<ExpertLinears> experts;
  ExpertLinears shared;  // kNoIndex: there is no shared expert
  // Values that exist within this step: the router's scores [rows, experts]; the input of one
  // expert, its inner values and its output, [its rows, ...]; the inner values of the shared
  // expert.
  Value scores = kStream, expert_in = kStream, expert_inner = kStream, expert_out = kStream,
        shared_inner = kStream;
};

// gate = activation(gate) * what the layer's own embedding of the token gives (Gemma 4).
struct PerLayerStep {
  Value gate = kStream;
};

// stream *= a stored number.
struct ScaleStep {
  int factor = kNoIndex;  // index into BlockSteps::own
};

// into += from, which is used up.
struct SumStep {
  Value into = kStream, from = kStream;
};

// stream += multiplier * in, which is used up.
struct AddStep {
  Value in = kStream;
  float multiplier = 1;
};

struct Step {
  std::variant<NormStep, LinearsStep, MixStep, GatedStep, ExpertsStep, PerLayerStep, SumStep,
               AddStep, ScaleStep>
      does;
  std::vector<Value> ends;  // values that no later step needs
  bool taps = false;        // no earlier step had linear layers that read this one's input
};

struct BlockNorm {
  std::string name;  // "model.layers.3.input_layernorm"; its tensors are NAME.weight and NAME.bias
  NormSpec spec;
  int64_t width = 0;
};

// A tensor of the mixer that is no linear layer. It reaches the mixer as floats.
struct OwnTensor {
  std::string name;  // "model.layers.3.self_attn.q_norm.weight"
  Shape shape;
  bool plus_one = false;  // what is stored is the value - 1
};

struct BlockValue {
  int64_t width = 0;
  int slot =
      kNoIndex;  // the piece of working memory that holds it; kNoIndex: it is another value's rows
};

struct BlockSteps {
  int64_t layer = 0;
  std::vector<Step> steps;
  std::vector<BlockValue> values;    // by Value; the first one is the stream
  std::vector<LinearLayer> linears;  // in the order of the steps
  std::vector<BlockNorm> norms;
  std::vector<OwnTensor> own;
  std::vector<int64_t> slots;  // width of the widest value that each slot holds

  int64_t width(Value value) const { return values.at(static_cast<size_t>(value)).width; }
  const LinearLayer& linear(int index) const { return linears.at(static_cast<size_t>(index)); }
  // The step with routed experts, or null.
  const ExpertsStep* experts() const;
};

BlockSteps block_steps(const ModelSpec& spec, int64_t layer);

// The linear layers of one block, in the order of its steps: those of the mixer, then gate, up and
// down; where experts are routed, the router, gate, up and down of the shared expert and its
// switch, then those of each expert.
std::vector<LinearLayer> linear_layers(const ModelSpec& spec, int64_t layer);

// Their names.
std::vector<std::string> linear_names(const ModelSpec& spec, int64_t layer);

}  // namespace lewis
