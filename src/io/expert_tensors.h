// Routed experts have two spellings: one tensor for each linear layer of each expert
// (mlp.experts.3.up_proj.weight [I, H]), or one for all experts (mlp.experts.gate_up_proj
// [E, 2I, H], in some models [E, H, 2I], or with gate and up in turns). lewis works on the first;
// what it writes has the spelling that is asked for.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "io/pieces_source.h"

namespace lewis {

// How the experts of one kind of layers are stored as two tensors.
struct ExpertLayout {
  std::string first, down;   // their names, behind the place: "experts.gate_up_proj"
  bool gate = true;          // the first holds gate and up, else up alone
  bool transposed = false;   // [E, in, out]
  bool interleaved = false;  // of the outputs the even ones are gate's, the odd ones up's
};
// By the place of the experts, with '#' for the layer's number: "model.layers.#.mlp.".
using FusedExperts = std::map<std::string, ExpertLayout, std::less<>>;

// The parts of the name "model.layers.0.mlp.experts.3.up_proj.weight".
struct ExpertName {
  std::string place;   // "model.layers.0.mlp."
  int64_t expert = 0;  // 3
  std::string linear;  // "gate_proj", "up_proj" or "down_proj"; also for w1, w3 and w2
  bool bias = false;
};
std::optional<ExpertName> split_expert_name(std::string_view name);
// The place with '#' for the layer's number.
std::string place_in_any_layer(std::string_view place);

struct SplitExperts {
  std::shared_ptr<const TensorSource> source;
  FusedExperts fused;  // empty: nothing was fused, `source` is what was given
};
// Shows fused experts as one tensor for each linear layer of each expert. Tensors of three
// dimensions that do not fit together as experts stay as they are.
SplitExperts split_experts(std::shared_ptr<const TensorSource> source, const Json& config);

// A tensor that is written, and where the tensors it is made of lie in it.
struct WrittenPart {
  std::string name;
  Strides place;  // no rows: the whole tensor
};
struct WrittenTensor {
  TensorInfo info;
  std::vector<WrittenPart> parts;  // in the order of the tensor
};
// `tensors` with the experts at the places of `fused` put together. Error(kInput) where some of
// them are missing or differ in shape or type.
std::vector<WrittenTensor> fuse_experts(const std::vector<TensorInfo>& tensors,
                                        const FusedExperts& fused);

}  // namespace lewis
