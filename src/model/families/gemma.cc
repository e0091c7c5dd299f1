// The first three Gemmas: norms that store what is added to one, and scaled embeddings.
#include <cmath>
#include <span>

#include "model/families/family.h"
#include "model/rope.h"

namespace lewis {
namespace {

// Reads what Gemma 2 and 3 share. The scale of the embeddings is that of a float32 model; one that
// runs in bfloat16 rounds it to that type.
void read_gemma(const ConfigReader& config, ModelSpec& spec) {
  spec.norm.plus_one = true;
  spec.norms = {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                "post_feedforward_layernorm"};
  spec.embedding_multiplier = static_cast<float>(std::sqrt(static_cast<double>(spec.hidden)));
  spec.attention_scale =
      static_cast<float>(1 / std::sqrt(config.positive("query_pre_attn_scalar")));
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.logit_softcap = static_cast<float>(config.positive_or("final_logit_softcapping", 0));
}

void read_gemma2(const ConfigReader& config, ModelSpec& spec) {
  read_gemma(config, spec);
  spec.attention_softcap = static_cast<float>(config.positive_or("attn_logit_softcapping", 0));
  read_windows(config, spec);
}

// Layers with a window have a rope of their own, which rope_scaling does not touch.
void read_gemma3(const ConfigReader& config, ModelSpec& spec) {
  read_gemma(config, spec);
  spec.qk_norm = QkNorm::kHead;
  config.size("sliding_window_pattern");  // must be a number
  read_windows(config, spec);
  const auto rope = config.object("rope_parameters");
  const auto local = rope ? rope->object("sliding_attention") : std::nullopt;
  spec.ropes.push_back(
      read_rope(config, local, spec.head_dim, config.positive("rope_local_base_freq")));
  for (LayerSpec& layer : spec.layer) layer.rope = layer.window ? 1 : 0;
}

// The first Gemma; "gelu" in its files means the tanh form.
void read_gemma1(const ConfigReader& config, ModelSpec& spec) {
  spec.norm.plus_one = true;
  spec.embedding_multiplier = static_cast<float>(std::sqrt(static_cast<double>(spec.hidden)));
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  if (spec.activation == Activation::kGelu) spec.activation = Activation::kGeluTanh;
}

constexpr Family kGemmasRows[] = {
    {"gemma",
     R"({"vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576,
         "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16,
         "head_dim": 256, "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 8192})",
     "", read_gemma1},
    {"gemma2",
     R"({"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
         "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
         "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
         "max_position_embeddings": 8192, "query_pre_attn_scalar": 256, "sliding_window": 4096,
         "final_logit_softcapping": 30, "attn_logit_softcapping": 50})",
     "attn_logit_softcapping final_logit_softcapping query_pre_attn_scalar sliding_window",
     read_gemma2},
    {"gemma3_text",
     R"({"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216,
         "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
         "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
         "max_position_embeddings": 131072, "query_pre_attn_scalar": 256, "sliding_window": 4096,
         "sliding_window_pattern": 6, "rope_theta": 1000000, "rope_local_base_freq": 10000})",
     "final_logit_softcapping query_pre_attn_scalar rope_local_base_freq sliding_window "
     "sliding_window_pattern",
     read_gemma3},
};

}  // namespace

extern const std::span<const Family> kGemmas;
constinit const std::span<const Family> kGemmas = kGemmasRows;

}  // namespace lewis
