// What a transformer is, as plain data: config.json -> ModelSpec. One row a family in families.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace lewis {

enum class Activation { kSilu, kGelu, kGeluTanh };

// Rotary position embedding; the angles of a position are position * inverse_frequency[i].
struct RopeSpec {
  std::vector<float> inverse_frequency;  // [rotary_dim / 2], after scaling
  float attention_factor = 1;            // multiplies cos and sin
};

struct ModelSpec {
  std::string model_type;
  int64_t layers = 0, hidden = 0, intermediate = 0, vocab = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  float norm_epsilon = 0;
  float attention_scale = 0;  // multiplies q k^T
  Activation activation = Activation::kSilu;
  RopeSpec rope;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool tied_head = false;
  int64_t max_positions = 0;
  // Where the tensors are: "model.embed_tokens.weight", "model.layers.{}.", "model.norm.weight".
  std::string prefix = "model.";
};

// Reads the keys of transformers 4 and 5. Throws Error(kInput) that names the file and the key:
// model_type missing or unknown (lists the known ones), a size that is missing or makes no sense,
// an activation, rope type or other setting that changes the computation and is not known.
ModelSpec read_model_spec(const Json& config, std::string_view file);

// The values of model_type that are supported, sorted.
std::vector<std::string_view> supported_model_types();

// The linear layers of one block, in the order q, k, v, o, gate, up, down:
// "model.layers.3.self_attn.q_proj" (no ".weight").
std::vector<std::string> linear_names(const ModelSpec& spec, int64_t layer);

}  // namespace lewis
