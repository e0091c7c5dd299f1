// Llama and its like: attention that sees everything before it, then an MLP; they differ in biases,
// norms of heads, multipliers and activations.
#include <span>

#include "model/families/family.h"
#include "model/rope.h"

namespace lewis {
namespace {

void read_seed_oss(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = config.boolean("attention_bias", true);
  spec.o_bias = config.boolean("attention_out_bias", false);
  spec.mlp_bias = config.boolean("mlp_bias", false);
}

void read_ernie4_5(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = spec.mlp_bias = config.boolean("use_bias", false);
  spec.ropes[0].pairs = RopePairs::kNeighbours;
}

void read_hunyuan(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.qk_norm = QkNorm::kHead;
  spec.norm_after_rope = true;
  spec.q_norm = "query_layernorm";
  spec.k_norm = "key_layernorm";
}

void read_apertus(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.qk_norm = QkNorm::kHead;
  spec.norms = {"attention_layernorm", "", "feedforward_layernorm", ""};
  spec.mlp = {"", "up_proj", "down_proj"};
}

void read_arcee(const ConfigReader& config, ModelSpec& spec) {
  read_llama(config, spec);
  spec.mlp = {"", "up_proj", "down_proj"};
}

constexpr Family kLlamasRows[] = {
    {"apertus",
     R"({"vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_act": "xielu",
         "max_position_embeddings": 65536, "rms_norm_eps": 1e-5, "rope_theta": 12000000,
         "rope_parameters": {"rope_type": "llama3", "rope_theta": 12000000, "factor": 8,
         "original_max_position_embeddings": 8192, "low_freq_factor": 1, "high_freq_factor": 4}})",
     "qk_norm xielu", read_apertus},
    {"arcee",
     R"({"vocab_size": 32000, "hidden_size": 2560, "intermediate_size": 18432,
         "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_act": "relu2",
         "max_position_embeddings": 4096, "rms_norm_eps": 1e-5})",
     "", read_arcee},
    {"ernie4_5",
     R"({"vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072,
         "num_hidden_layers": 18, "num_attention_heads": 16, "num_key_value_heads": 2,
         "head_dim": 128, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
         "rope_theta": 500000})",
     "", read_ernie4_5},
    {"granite",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "embedding_multiplier": 1, "logits_scaling": 1, "residual_multiplier": 1,
         "attention_multiplier": 1})",
     "attention_multiplier embedding_multiplier logits_scaling residual_multiplier", read_granite},
    {"hunyuan_v1_dense",
     R"({"vocab_size": 290943, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-5})",
     "use_qk_norm", read_hunyuan, "alpha"},
    {"llama",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048})",
     "", read_llama},
    {"seed_oss",
     R"({"vocab_size": 155136, "hidden_size": 4096, "intermediate_size": 27648,
         "num_hidden_layers": 64, "num_attention_heads": 80, "num_key_value_heads": 8,
         "head_dim": 128, "max_position_embeddings": 524288})",
     "", read_seed_oss},
};

}  // namespace

extern const std::span<const Family> kLlamas;
constinit const std::span<const Family> kLlamas = kLlamasRows;

}  // namespace lewis
