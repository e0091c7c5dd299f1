// The matrices that an adapter changes, sorted by those that must have one rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/expert_tensors.h"
#include "io/tensor_source.h"

namespace lewis {

// A linear layer's weight; of fused experts, that of the gate with that of `up` below it.
struct AdapterMatrix {
  const TensorInfo* weight = nullptr;
  const TensorInfo* up = nullptr;
  int64_t rows() const { return (up ? 2 : 1) * weight->shape[0]; }
  int64_t columns() const { return weight->shape[1]; }
};

struct RankGroup {
  std::vector<AdapterMatrix> matrices;  // of a parameter: one per expert, in their order
  // The parameter of the experts' module that PEFT changes as a whole, such as
  // "model.layers.0.mlp.experts.down_proj"; "": every matrix is a layer of its own.
  std::string parameter;
  ExpertLayout layout;   // of a parameter
  bool experts = false;  // routed experts, stored one by one or as a parameter
};

// One group per matrix of `linear`. Where `experts`, those of all layers follow: a layer's fused
// ones are two groups (gate_up_proj and down_proj, which PEFT wraps one around the other), and all
// those that are stored one by one are a single group, since PEFT stacks them when transformers
// has them as parameters. Tensors must outlive the groups. Error(kInput): experts of a layer that
// are not all there, or differ in shape.
std::vector<RankGroup> rank_groups(const std::vector<const TensorInfo*>& linear, bool experts,
                                   const TensorSource& model, const FusedExperts& fused);

// How routed experts of this name may be held by an adapter: nothing where they cannot, as biases
// and the fused experts of layouts that PEFT has no parameters of this kind for.
bool is_expert_of_adapter(const TensorInfo& tensor, const FusedExperts& fused);

// The factors of all experts of a parameter as PEFT 0.21 stores them (ParamWrapper.get_delta_weight
// in peft/tuners/lora/layer.py): lora_A [experts * rank, inputs] and lora_B [outputs, rank *
// experts], whose columns are those of all experts for the first rank, then for the second.
struct ParameterFactors {
  ParameterFactors(const RankGroup& group, int64_t rank);
  // a [rank, columns] and b [rows, rank] of an expert's matrix, `up` below the gate.
  void put(int64_t expert, const std::vector<float>& a, const std::vector<float>& b);

  int64_t inputs = 0, outputs = 0;  // as PEFT counts them
  std::vector<float> a, b;

 private:
  const RankGroup& group_;
  int64_t rank_, experts_;
  bool swapped_;  // PEFT takes the rows of the stored matrices for the outputs, whatever they are
};

}  // namespace lewis
