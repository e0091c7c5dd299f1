// OLMo: norms behind attention and MLP, and of whole queries and keys.
#include <span>

#include "model/families/family.h"
#include "model/rope.h"

namespace lewis {
namespace {

void read_olmo2(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.qk_norm = QkNorm::kWhole;
  spec.norms = {"", "post_attention_layernorm", "", "post_feedforward_layernorm"};
}

// OLMo 2 with windows; layers with a window have a rope of their own. The scaling of files of
// transformers 4 and their rope_theta are those of the other layers alone.
void read_olmo3(const ConfigReader& config, ModelSpec& spec) {
  read_olmo2(config, spec);
  read_windows(config, spec);
  const auto rope = config.object("rope_parameters");
  const auto local = rope ? rope->object("sliding_attention") : std::nullopt;
  constexpr double kTheta = 500000;
  spec.ropes.push_back(read_rope(config, local, spec.head_dim, kTheta));
  for (LayerSpec& layer : spec.layer) layer.rope = layer.window ? 1 : 0;
}

void read_olmoe(const ConfigReader& config, ModelSpec& spec) {
  read_experts(config, spec);
  spec.experts.intermediate = spec.intermediate;
  spec.experts.normalize = config.boolean("norm_topk_prob", false);
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.qk_norm = QkNorm::kWhole;
  spec.qkv_clip = static_cast<float>(config.positive_or("clip_qkv", 0));
}

constexpr Family kOlmosRows[] = {
    {"olmo2",
     R"({"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-5})",
     "", read_olmo2},
    {"olmo3",
     R"({"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-5, "rope_theta": 500000, "sliding_window": 4096})",
     "sliding_window", read_olmo3, "full_attention"},
    {"olmoe",
     R"({"vocab_size": 50304, "hidden_size": 2048, "intermediate_size": 2048,
         "num_hidden_layers": 16, "num_attention_heads": 16, "max_position_embeddings": 4096,
         "rms_norm_eps": 1e-5, "num_experts_per_tok": 8, "num_experts": 64})",
     "clip_qkv num_experts", read_olmoe},
};

}  // namespace

extern const std::span<const Family> kOlmos;
constinit const std::span<const Family> kOlmos = kOlmosRows;

}  // namespace lewis
