// GLM: gate and up in one tensor, rope of a part of each head, of neighbouring values.
#include <span>

#include "model/families/family.h"

namespace lewis {
namespace {

void read_glm(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = config.boolean("attention_bias", true);
  spec.gate_up = "gate_up_proj";
  spec.ropes[0].pairs = RopePairs::kNeighbours;
}

void read_glm4(const ConfigReader& config, ModelSpec& spec) {
  read_glm(config, spec);
  spec.norms = {"input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm",
                "post_mlp_layernorm"};
}

// Heads as wide as hidden_size / num_attention_heads, rounded down.
void rename_glm4_moe(std::string_view file, Json& all) {
  const ConfigReader config(all, file);
  if (config.find("head_dim")) return;
  all["head_dim"] = config.size("hidden_size") / config.size("num_attention_heads");
}

void read_glm4_moe(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = config.boolean("attention_bias", false);
  if (config.boolean("use_qk_norm", false)) spec.qk_norm = QkNorm::kHead;
  read_deepseek_experts(config, spec);
  read_grouped_router(config, spec);
  expect_mtp_layers(config, spec);
}

constexpr Family kGlmsRows[] = {
    {"glm",
     R"({"vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696,
         "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2,
         "head_dim": 128, "max_position_embeddings": 131072, "rms_norm_eps": 1.5625e-7,
         "partial_rotary_factor": 0.5})",
     "partial_rotary_factor", read_glm},
    {"glm4",
     R"({"vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696,
         "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2,
         "head_dim": 128, "max_position_embeddings": 131072, "rms_norm_eps": 1.5625e-7,
         "partial_rotary_factor": 0.5})",
     "partial_rotary_factor", read_glm4},
    {"glm4_moe",
     R"({"vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 10944,
         "num_hidden_layers": 46, "num_attention_heads": 96, "num_key_value_heads": 8,
         "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "partial_rotary_factor": 0.5,
         "moe_intermediate_size": 1408, "n_shared_experts": 1, "n_routed_experts": 128,
         "routed_scaling_factor": 1, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 8,
         "first_k_dense_replace": 1})",
     "first_k_dense_replace moe_intermediate_size n_group n_routed_experts n_shared_experts "
     "partial_rotary_factor routed_scaling_factor use_qk_norm",
     read_glm4_moe, "", rename_glm4_moe},
};

}  // namespace

extern const std::span<const Family> kGlms;
constinit const std::span<const Family> kGlms = kGlmsRows;

}  // namespace lewis
