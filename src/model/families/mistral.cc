// Mistral and its like: one window for all layers; and the mixtures that have the names of Mixtral.
#include <span>

#include "model/families/family.h"
#include "model/rope.h"

namespace lewis {
namespace {

void read_phi3(const ConfigReader& config, ModelSpec& spec) {
  spec.fused_qkv = true;
  spec.gate_up = "gate_up_proj";
  read_window_of_all(config, spec);
}

void read_starcoder2(const ConfigReader& config, ModelSpec& spec) {
  spec.norm = {NormKind::kLayer, static_cast<float>(config.positive("norm_epsilon")), true};
  spec.qkv_bias = spec.o_bias = spec.mlp_bias = config.boolean("use_bias", true);
  spec.mlp = {"", "c_fc", "c_proj"};
  read_window_of_all(config, spec);
}

void read_mixtral(const ConfigReader& config, ModelSpec& spec) {
  read_mixtral_experts(config, spec);
  spec.experts.normalize = true;
  read_window_of_all(config, spec);
}

// Mistral with yarn and queries that grow with their position.
void read_ministral3(const ConfigReader& config, ModelSpec& spec) {
  const auto rope = rope_object(config);
  if (!rope || !rope->find("llama_4_scaling_beta")) {
    throw config.refuse("rope_parameters", "an object with llama_4_scaling_beta");
  }
  spec.query_scale_beta = static_cast<float>(rope->number("llama_4_scaling_beta"));
  spec.query_scale_length = rope->size("original_max_position_embeddings");
  read_window_of_all(config, spec);
}

// longrope multiplies cos and sin by numbers of the file, and transformers never turns to the long
// factors.
void read_phimoe_rope(const ConfigReader& config, ModelSpec& spec) {
  const auto rope = rope_object(config);
  const std::string type =
      !rope ? "default" : rope->text(rope->find("rope_type") ? "rope_type" : "type", "default");
  if (type == "default") return;
  if (type != "longrope" && type != "su") throw rope->refuse("rope_type", "default or longrope");
  RopeSpec& spec_rope = spec.ropes[0];
  spec_rope.attention_factor = static_cast<float>(rope->positive("short_mscale"));
  spec_rope.long_attention_factor = static_cast<float>(rope->positive("long_mscale"));
  spec_rope.long_frequency = spec_rope.inverse_frequency;
}

void read_phimoe(const ConfigReader& config, ModelSpec& spec) {
  read_mixtral_experts(config, spec);
  if (spec.experts.chosen != 2) throw config.refuse("num_experts_per_tok", "2");
  spec.experts.router = Router::kSparseMixer;
  spec.experts.jitter = static_cast<float>(config.positive_or("router_jitter_noise", 0));
  spec.norm = {NormKind::kLayer, spec.norm.epsilon, true};
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.head_bias = config.boolean("lm_head_bias", false);
  read_phimoe_rope(config, spec);
  read_window_of_all(config, spec);
}

void read_minimax_m2(const ConfigReader& config, ModelSpec& spec) {
  read_mixtral_experts(config, spec);
  spec.experts.router = Router::kSigmoid;
  spec.experts.correction = "e_score_correction_bias";
  spec.experts.normalize = true;
  spec.qk_norm = QkNorm::kWhole;
}

constexpr Family kMistralsRows[] = {
    {"minimax_m2",
     R"({"vocab_size": 200064, "hidden_size": 3072, "intermediate_size": 1536,
         "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8,
         "head_dim": 128, "max_position_embeddings": 196608, "rope_theta": 5000000,
         "num_experts_per_tok": 8, "num_experts": 256})",
     "num_experts partial_rotary_factor rotary_dim use_qk_norm", read_minimax_m2},
    {"ministral3",
     R"({"vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 34, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 128, "max_position_embeddings": 262144, "rms_norm_eps": 1e-5,
         "rope_parameters": {"type": "yarn", "rope_theta": 1000000, "factor": 16,
         "original_max_position_embeddings": 16384, "beta_fast": 32, "beta_slow": 1,
         "mscale_all_dim": 1, "mscale": 1, "llama_4_scaling_beta": 0.1}})",
     "sliding_window", read_ministral3, "llama_4_scaling_beta max_position_embeddings"},
    {"mistral",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "max_position_embeddings": 131072, "sliding_window": 4096})",
     "sliding_window", read_window_of_all},
    {"mixtral",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 1000000,
         "num_experts_per_tok": 2, "num_experts": 8})",
     "num_experts sliding_window", read_mixtral},
    {"phi3",
     R"({"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
         "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5})",
     "partial_rotary_factor sliding_window", read_phi3},
    {"phimoe",
     R"({"vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 6400,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 1000000,
         "num_experts_per_tok": 2, "num_experts": 16, "router_jitter_noise": 0.01})",
     "num_experts sliding_window", read_phimoe, "long_mscale short_mscale"},
    {"starcoder2",
     R"({"vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288,
         "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2,
         "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 4096,
         "norm_epsilon": 1e-5})",
     "sliding_window", read_starcoder2},
};

}  // namespace

extern const std::span<const Family> kMistrals;
constinit const std::span<const Family> kMistrals = kMistralsRows;

}  // namespace lewis
