// Writes down the steps of one block. Mixers use it to add theirs.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/block_steps.h"

namespace lewis {

// One linear layer, or the rows of a fused one that belong to it. `name` follows the place:
// "self_attn." + "q_proj".
struct LinearPart {
  std::string_view name;
  int64_t rows = 0;
  LinearRole role = LinearRole::kMixer;
};

class BlockBuilder {
 public:
  BlockBuilder(const ModelSpec& spec, int64_t layer);

  const ModelSpec& spec() const { return spec_; }
  int64_t number() const { return block_.layer; }
  const LayerSpec& layer() const { return spec_.layer.at(static_cast<size_t>(block_.layer)); }
  int64_t width(Value value) const { return block_.width(value); }

  // The normed rows of `in`, or its rows as they are where `name` is empty.
  Value norm(std::string_view name, Value in);
  // Norms x in place; does nothing where `name` is empty.
  void norm_in_place(std::string_view name, Value x, const NormSpec& norm);
  // Linear layers that share the input, one value each. `fused`: the name of the one tensor that
  // holds the rows of all parts, one after the other; empty: each has its own.
  std::vector<Value> linears(std::string_view place, std::span<const LinearPart> parts, Value in,
                             bool bias, std::string_view fused = {});
  Value linear(std::string_view place, const LinearPart& part, Value in, bool bias);
  // A computation of the mixer that gives values of these widths. It uses its inputs up.
  std::vector<Value> mix(std::vector<Value> in, std::span<const int64_t> widths, int stage = 0);
  // Is added to the stages of the mixes that follow: tells two mixers of one block apart.
  void set_first_stage(int stage) { first_stage_ = stage; }
  // A tensor that only the mixer reads, by its name within the block.
  void own_tensor(std::string_view name, Shape shape, bool plus_one = false);
  // The output [rows, hidden] of the MLP, or of the experts, that the spec describes.
  Value mlp(Value x);
  Value experts(Value x);
  Value mlp_and_experts(Value x);
  void add_to_stream(Value x, float multiplier = 1);
  void add_per_layer_input();
  void scale_stream(std::string_view tensor);

  BlockSteps finish();

 private:
  using Values = std::vector<Value>;
  Value new_value(int64_t width);
  std::string in_block(std::string_view place, std::string_view name) const;
  void add_step(decltype(Step::does) does, Values reads, Values writes, bool linear_input);
  int add_linear(LinearLayer linear);
  std::vector<int> own_linears(std::string_view place, std::span<const LinearPart> parts, Value in,
                               bool bias, int64_t expert);
  std::vector<int> fused_linears(std::string_view place, std::string_view fused,
                                 std::span<const LinearPart> parts, Value in, bool bias,
                                 int64_t expert);
  // An MLP: where its linear layers are, how wide it is inside, and outside (0: hidden).
  struct MlpShape {
    std::string place;
    MlpNames names;
    std::string_view gate_up;
    int64_t inner = 0, out = 0;
    bool bias = false;
  };
  ExpertLinears mlp_linears(const MlpShape& mlp, Value in, Value inner, int64_t expert);
  Value mlp(const MlpShape& mlp, Value x);
  Value routed(Value x, Value routed_in);
  MlpShape shared_expert() const;
  ExpertLinears routed_expert(const std::string& place, int64_t expert, const ExpertsStep& step);
  void sum(Value into, Value from);
  int add_norm(std::string_view name, const NormSpec& norm, int64_t width);
  void find_ends();
  void assign_slots();

  const ModelSpec& spec_;
  BlockSteps block_;
  std::vector<Values> reads_, writes_;  // of each step
  std::set<Value> tapped_;
  int first_stage_ = 0;
};

}  // namespace lewis
