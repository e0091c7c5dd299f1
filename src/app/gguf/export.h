// A model as the GGUF file that llama.cpp runs.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_fwd.h"
#include "io/gguf.h"
#include "io/tensor_source.h"
#include "model/model_spec.h"

namespace lewis {

// A tensor of the file, and where its rows come from.
struct ExportedTensor {
  GgufTensor tensor;
  std::vector<std::string> sources;  // names in the model: one, or one for each routed expert
  int64_t rope_heads = 0;  // llama.cpp turns neighbouring rows of a head: rows change places; or 0
  bool stays_f32 = false;  // whatever the others are: a vector, a router
};

struct GgufExport {
  GgufMetadata metadata;  // without tokenizer.* and general.*, but general.architecture
  std::vector<ExportedTensor> tensors;
  std::vector<float> rope_factors;  // of rope_freqs.weight (Llama 3); empty: there is none
  std::vector<std::string> notes;   // one line each
};

// The sizes of `spec`, which `config` was read as, are those of the file. The keys and tensors of
// models of llama, mistral and mixtral (all "llama" in GGUF), qwen2, qwen3, qwen2_moe and
// qwen3_moe, as the converter of llama.cpp has them; the routed experts of a layer, which `model`
// shows one by one, become one tensor [experts, rows, columns]. Matrices get `type`, where their
// rows fill its blocks; else, as there, float16. Vectors and routers are float32. `file`:
// config.json, for messages. Throws Error(kInput) for another model_type, rope_scaling or routing
// that is not known, and a tensor that has no place in the file.
GgufExport export_model(const TensorSource& model, const ModelSpec& spec, const Json& config,
                        const std::string& file);

// A family of models and what llama.cpp calls it.
struct GgufArchitecture {
  std::string_view model_type, gguf;
  bool neighbours = false;  // rotary pairs are neighbours in llama.cpp
  bool mixture = false;     // of routed experts, in every layer
  // Whether llama.cpp makes the weights of the chosen experts add up to one.
  bool normalizes = false;
};
std::span<const GgufArchitecture> gguf_architectures();

// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight"; nothing for a tensor without a
// place in the file.
std::optional<std::string> gguf_name_of(std::string_view name);
// The tensor of all experts that one of an expert is part of:
// "model.layers.3.mlp.experts.7.up_proj.weight" -> "blk.3.ffn_up_exps.weight" and 7.
std::optional<std::pair<std::string, int64_t>> gguf_experts_of(std::string_view name);

}  // namespace lewis
