// Names of tensors in a GGUF file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "app/gguf/families/architecture.h"
#include "model/model_spec.h"

namespace lewis {

// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight", in a model of that
// architecture whose embeddings, norms and head are where `spec` says; nothing for a tensor without
// a place in the file. (gguf-py 0.19.0, tensor_mapping.py)
std::optional<std::string> gguf_name_of(std::string_view name, const ModelSpec& spec,
                                        const GgufArchitecture& architecture);

// The tensor of all experts that one of an expert is part of:
// "model.layers.3.mlp.experts.7.up_proj.weight" -> "blk.3.ffn_up_exps.weight" and 7.
std::optional<std::pair<std::string, int64_t>> gguf_experts_of(std::string_view name,
                                                               const ModelSpec& spec);

}  // namespace lewis
