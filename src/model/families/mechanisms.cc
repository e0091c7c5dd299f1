// The settings that change what a model computes: a family reads them, or refuses them by name.
#include <optional>

#include "model/families/family.h"

namespace lewis {
namespace {

// Settings of some family that change what a model computes. A family that does not read them
// accepts only the value that changes nothing.
struct Mechanism {
  std::string_view key;
  std::optional<double> neutral = {};  // besides null, false, [] and {}
};

constexpr Mechanism kMechanisms[] = {
    {"add_cross_attention"},
    {"alibi"},
    {"attention_chunk_size"},
    {"attention_multiplier"},
    {"attention_k_eq_v"},
    {"attn_logit_softcapping"},
    {"attn_output_gate"},
    {"clip_qkv"},
    {"conv_L_cache"},
    {"embedding_multiplier", 1},
    {"enable_moe_block"},
    {"final_logit_softcapping"},
    {"first_k_dense_replace"},
    {"full_attention_interval"},
    {"full_attn_idxs"},
    {"global_head_dim"},
    {"head_dim_v"},
    {"hidden_size_per_layer_input", 0},
    {"hybrid_override_pattern"},
    {"interleave_moe_layer_step"},
    {"is_encoder_decoder"},
    {"key_multiplier", 1},
    {"kv_lora_rank"},
    {"layers_block_type"},
    {"linear_num_value_heads"},
    {"lm_head_multiplier", 1},
    {"logit_scale", 1},
    {"logits_scaling", 1},
    {"mamba_n_heads"},
    {"mamba_num_heads"},
    {"mlp_multipliers"},
    {"moe_intermediate_size"},
    {"moe_latent_size"},
    {"moe_layers"},
    {"moe_shared_expert_intermediate_size"},
    {"n_group", 1},
    {"n_routed_experts"},
    {"n_shared_experts", 0},
    {"no_rope_layer_interval"},
    {"no_rope_layers"},
    {"num_experts"},
    {"num_global_key_value_heads"},
    {"num_kv_shared_layers"},
    {"num_local_experts"},
    {"per_layer_config"},
    {"partial_rotary_factor", 1},
    {"qk_layernorm"},
    {"qk_norm"},
    {"quantization_config"},
    {"query_pre_attn_scalar"},
    {"residual_multiplier", 1},
    {"rope_interleave"},
    {"rope_local_base_freq"},
    {"rotary_dim"},
    {"routed_scaling_factor", 1},
    {"rotary_pct", 1},
    {"shared_expert_intermediate_size"},
    {"shared_intermediate_size", 0},
    {"sliding_window"},
    {"sliding_window_pattern"},
    {"ssm_state_size"},
    {"swiglu_alpha"},
    {"swiglu_limit"},
    {"text_config"},
    {"use_alibi"},
    {"use_bidirectional_attention"},
    {"use_double_wide_mlp"},
    {"use_mrope"},
    {"use_parallel_residual"},
    {"use_qk_norm"},
    {"use_sliding_window"},
    {"vision_config"},
};

bool changes_nothing(const Json& value, const Mechanism& mechanism) {
  return value == false || (value.is_structured() && value.empty()) ||
         (value.is_number() && mechanism.neutral && value.get<double>() == *mechanism.neutral);
}

}  // namespace

void refuse_unknown_mechanisms(const ConfigReader& config, const Family& family) {
  const std::string expected = fmt::format(
      "to be absent: model_type '{}' does not have this setting here", family.model_type);
  for (const Mechanism& m : kMechanisms) {
    const Json* value = config.find(m.key);
    if (value && !family.reads(m.key) && !changes_nothing(*value, m)) {
      throw config.refuse(m.key, expected);
    }
  }
}

}  // namespace lewis
