// Qwen 2 to 3, their mixtures and the text of their VL models; Qwen 3.5 and Next, whose layers take
// turns with the gated delta rule.
#include <algorithm>
#include <span>

#include "model/families/family.h"
#include "model/mixer.h"

namespace lewis {
namespace {

void read_qwen2(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = true;
  read_windows(config, spec);
}

// Reads what Qwen 3 and the text of Qwen 3 VL share.
void read_qwen3_attention(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.qk_norm = QkNorm::kHead;
}

void read_qwen3(const ConfigReader& config, ModelSpec& spec) {
  read_qwen3_attention(config, spec);
  read_windows(config, spec);
}

// Which layers of a Qwen have experts, and their sizes.
void read_qwen_experts(const ConfigReader& config, ModelSpec& spec) {
  read_experts(config, spec);
  spec.experts.intermediate = config.size("moe_intermediate_size");
  spec.experts.normalize = config.boolean("norm_topk_prob", false);
  const std::vector<int64_t> dense = config.indices("mlp_only_layers");
  const int64_t step = config.size("decoder_sparse_step");
  for (int64_t i = 0; i < spec.layers; ++i) {
    spec.layer[static_cast<size_t>(i)].routed =
        std::ranges::find(dense, i) == dense.end() && (i + 1) % step == 0;
  }
}

void read_qwen2_moe(const ConfigReader& config, ModelSpec& spec) {
  read_qwen_experts(config, spec);
  spec.qkv_bias = config.boolean("qkv_bias", true);
  spec.experts.shared_intermediate = config.size("shared_expert_intermediate_size");
  read_windows(config, spec);
}

void read_qwen3_moe(const ConfigReader& config, ModelSpec& spec) {
  read_qwen_experts(config, spec);
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.qk_norm = QkNorm::kHead;
  if (config.boolean("use_sliding_window", false)) read_window_of_all(config, spec);
}

void read_qwen2_vl(const ConfigReader& config, ModelSpec& spec) {
  read_qwen2(config, spec);
  check_mrope(config, spec);
}

void read_qwen3_vl(const ConfigReader& config, ModelSpec& spec) {
  read_qwen3_attention(config, spec);
  check_mrope(config, spec);
}

void read_qwen3_vl_moe(const ConfigReader& config, ModelSpec& spec) {
  read_qwen_experts(config, spec);
  spec.experts.normalize = true;
  read_qwen3_vl(config, spec);
}

// Layers of gated attention and of `linear`, a mixer, in turns.
void read_gated_layers(const ConfigReader& config, std::string_view linear, ModelSpec& spec) {
  if (!config.boolean("attn_output_gate", true)) throw config.refuse("attn_output_gate", "true");
  spec.norm.plus_one = true;
  spec.qk_norm = QkNorm::kHead;
  spec.attention_gate = true;
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  const auto kinds =
      read_kinds(config, spec, "layer_types", {"full_attention", "linear_attention"});
  const MixerPtr mixer = make_mixer(linear, config);
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] == "linear_attention") spec.layer[i].mixer = mixer;
  }
}

void read_qwen3_5(const ConfigReader& config, ModelSpec& spec) {
  read_gated_layers(config, "gated_delta", spec);
  check_mrope(config, spec);
}

void read_qwen3_5_moe(const ConfigReader& config, ModelSpec& spec) {
  read_qwen3_5(config, spec);
  read_experts(config, spec);
  spec.experts.intermediate = config.size("moe_intermediate_size");
  spec.experts.shared_intermediate = config.size("shared_expert_intermediate_size");
  spec.experts.normalize = true;
}

void read_qwen3_next(const ConfigReader& config, ModelSpec& spec) {
  read_gated_layers(config, "gated_delta_fused", spec);
  read_qwen_experts(config, spec);
  spec.experts.normalize = config.boolean("norm_topk_prob", true);
  spec.experts.shared_intermediate = config.size("shared_expert_intermediate_size");
}

constexpr Family kQwensRows[] = {
    {"qwen2",
     R"({"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
         "max_position_embeddings": 32768, "sliding_window": 4096, "max_window_layers": 28})",
     "sliding_window use_sliding_window", read_qwen2},
    {"qwen2_5_vl_text",
     R"({"vocab_size": 152064, "hidden_size": 8192, "intermediate_size": 29568,
         "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
         "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1000000,
         "sliding_window": 4096, "max_window_layers": 80})",
     "sliding_window use_sliding_window", read_qwen2_vl, "mrope_section"},
    {"qwen2_moe",
     R"({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
         "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
         "max_position_embeddings": 32768, "sliding_window": 4096, "max_window_layers": 28,
         "decoder_sparse_step": 1, "moe_intermediate_size": 1408,
         "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4, "num_experts": 60})",
     "moe_intermediate_size num_experts shared_expert_intermediate_size sliding_window "
     "use_sliding_window",
     read_qwen2_moe},
    {"qwen3",
     R"({"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
         "head_dim": 128, "max_position_embeddings": 32768, "sliding_window": 4096,
         "max_window_layers": 28})",
     "sliding_window use_sliding_window", read_qwen3},
    {"qwen3_5_moe_text",
     R"({"vocab_size": 248320, "hidden_size": 2048, "intermediate_size": 512,
         "num_hidden_layers": 40, "num_attention_heads": 16, "num_key_value_heads": 2,
         "head_dim": 256, "max_position_embeddings": 32768, "partial_rotary_factor": 0.25,
         "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
         "linear_num_key_heads": 16, "linear_num_value_heads": 32, "moe_intermediate_size": 512,
         "shared_expert_intermediate_size": 512, "num_experts_per_tok": 8, "num_experts": 256})",
     "attn_output_gate full_attention_interval layer_types linear_num_value_heads "
     "moe_intermediate_size num_experts partial_rotary_factor shared_expert_intermediate_size",
     read_qwen3_5_moe, "mrope_interleaved mrope_section"},
    {"qwen3_5_text",
     R"({"vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288,
         "num_hidden_layers": 32, "num_attention_heads": 16, "num_key_value_heads": 4,
         "head_dim": 256, "max_position_embeddings": 32768, "partial_rotary_factor": 0.25,
         "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
         "linear_num_key_heads": 16, "linear_num_value_heads": 32})",
     "attn_output_gate full_attention_interval layer_types linear_num_value_heads "
     "partial_rotary_factor",
     read_qwen3_5, "mrope_interleaved mrope_section"},
    {"qwen3_moe",
     R"({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
         "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 4,
         "max_position_embeddings": 32768, "sliding_window": 4096, "decoder_sparse_step": 1,
         "moe_intermediate_size": 768, "num_experts_per_tok": 8, "num_experts": 128})",
     "moe_intermediate_size num_experts sliding_window use_sliding_window", read_qwen3_moe},
    {"qwen3_next",
     R"({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
         "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 2,
         "head_dim": 256, "max_position_embeddings": 32768, "partial_rotary_factor": 0.25,
         "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
         "linear_num_key_heads": 16, "linear_num_value_heads": 32, "decoder_sparse_step": 1,
         "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
         "num_experts_per_tok": 10, "num_experts": 512})",
     "attn_output_gate full_attention_interval layer_types linear_num_value_heads "
     "moe_intermediate_size num_experts partial_rotary_factor shared_expert_intermediate_size",
     read_qwen3_next},
    {"qwen3_vl_moe_text",
     R"({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
         "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
         "max_position_embeddings": 128000, "rope_theta": 500000, "decoder_sparse_step": 1,
         "moe_intermediate_size": 1408, "num_experts_per_tok": 4, "num_experts": 60})",
     "moe_intermediate_size num_experts", read_qwen3_vl_moe, "mrope_interleaved mrope_section"},
    {"qwen3_vl_text",
     R"({"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
         "head_dim": 128, "max_position_embeddings": 128000, "rope_theta": 500000})",
     "", read_qwen3_vl, "mrope_interleaved mrope_section"},
};

}  // namespace

extern const std::span<const Family> kQwens;
constinit const std::span<const Family> kQwens = kQwensRows;

}  // namespace lewis
