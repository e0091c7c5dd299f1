// gpt-oss: sinks of attention, experts with biases.
#include <span>

#include "model/families/family.h"

namespace lewis {
namespace {

// Sinks; experts with biases whose gate and up take turns in one tensor.
void read_gpt_oss(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", true);
  spec.sinks = true;
  spec.glu_limit = static_cast<float>(config.positive("swiglu_limit"));
  spec.glu_alpha = static_cast<float>(config.positive("swiglu_alpha"));
  read_windows(config, spec);
  read_experts(config, spec);
  ExpertsSpec& e = spec.experts;
  e.intermediate = spec.intermediate;
  e.router = Router::kChosenSoftmax;
  e.router_bias = e.bias = true;
  e.gate_name = "router";
  e.shown_split = true;
}

constexpr Family kGptOssRows[] = {
    {"gpt_oss",
     R"({"vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
         "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8,
         "head_dim": 64, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
         "rope_theta": 150000, "sliding_window": 128, "num_experts": 128,
         "num_experts_per_tok": 4, "swiglu_alpha": 1.702, "swiglu_limit": 7,
         "rope_parameters": {"rope_type": "yarn", "factor": 32, "beta_fast": 32,
         "beta_slow": 1, "truncate": false,
         "original_max_position_embeddings": 4096}})",
     "num_experts sliding_window swiglu_alpha swiglu_limit", read_gpt_oss},
};

}  // namespace

extern const std::span<const Family> kGptOss;
constinit const std::span<const Family> kGptOss = kGptOssRows;

}  // namespace lewis
