// Attention and Mamba 2 or short convolutions, in turns or side by side.
#include <span>

#include "model/families/family.h"
#include "model/mixer.h"

namespace lewis {
namespace {

// Attention and short convolutions in turns.
void read_lfm2(const ConfigReader& config, ModelSpec& spec) {
  spec.norms = {"operator_norm", "", "ffn_norm", ""};
  spec.final_norm = "embedding_norm";
  spec.o_proj = "out_proj";
  spec.qk_norm = QkNorm::kHead;
  spec.q_norm = "q_layernorm";
  spec.k_norm = "k_layernorm";
  spec.mlp_place = "feed_forward.";
  spec.mlp = {"w1", "w3", "w2"};
  spec.activation = Activation::kSilu;  // hidden_act is not read
  const MixerPtr mixer = make_mixer("short_conv", config);
  const auto kinds = read_kinds(config, spec, "layer_types", {"full_attention", "conv"});
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] == "conv") spec.layer[i].mixer = mixer;
  }
}

// Old names; and the width of the MLPs, which block_auto_adjust_ff_dim makes of another.
void rename_lfm2(std::string_view file, Json& all) {
  const auto take = [&](const char* from, const char* to) {
    if (all.contains(from) && !all[from].is_null()) all[to] = all[from];
  };
  take("tie_embedding", "tie_word_embeddings");
  take("block_ff_dim", "intermediate_size");
  take("norm_eps", "rms_norm_eps");
  const ConfigReader config(all, file);
  if (!config.boolean("block_auto_adjust_ff_dim", true)) return;
  int64_t width = 2 * config.size("intermediate_size") / 3;
  if (config.find("block_ffn_dim_multiplier")) {
    const int64_t unit = config.size("block_multiple_of", 256);
    width = static_cast<int64_t>(config.positive("block_ffn_dim_multiplier") *
                                 static_cast<double>(width));
    width = unit * ((width + unit - 1) / unit);
  }
  all["intermediate_size"] = width;
}

// A block has one norm and one of Mamba, attention, an MLP and experts.
void read_nemotron_h(const ConfigReader& config, ModelSpec& spec) {
  spec.prefix = "backbone.";
  spec.embeddings = "embeddings";
  spec.final_norm = "norm_f";
  spec.norms = {"norm", "", "norm", ""};
  spec.attention = spec.mlp_place = "mixer.";
  spec.mlp = {"", "up_proj", "down_proj"};
  spec.mlp_bias = config.boolean("mlp_bias", false);
  const MixerPtr mamba = make_mixer("mamba2_nemotron", config);
  const auto kinds = read_kinds(config, spec, "layers_block_type",
                                {"full_attention", "linear_attention", "mlp", "moe"});
  bool routed = false;
  for (size_t i = 0; i < kinds.size(); ++i) {
    LayerSpec& layer = spec.layer[i];
    layer.rope = kNoRope;
    layer.routed = kinds[i] == "moe";
    layer.feeds = kinds[i] == "mlp" || layer.routed;
    layer.mixes = !layer.feeds;
    if (kinds[i] == "linear_attention") layer.mixer = mamba;
    routed = routed || layer.routed;
  }
  if (!routed) return;
  ExpertsSpec& e = spec.experts;
  e.count = config.parts("n_routed_experts");
  e.chosen = config.size("num_experts_per_tok");
  e.intermediate = config.size("moe_intermediate_size");
  e.module = "mixer";
  e.names = e.shared_names = {"", "up_proj", "down_proj"};
  e.shown_split = true;
  e.shared = "mixer.shared_experts.";
  e.shared_switch = "";
  e.shared_intermediate = config.size("moe_shared_expert_intermediate_size");
  if (config.find("moe_latent_size")) e.latent = config.size("moe_latent_size");
  read_grouped_router(config, spec);
}

// Old names; and the layers, which are as many as the list of their kinds says.
void rename_nemotron_h(std::string_view file, Json& all) {
  struct Name {
    const char *from, *to;
  };
  for (const auto& [from, to] : {Name{"mamba_n_groups", "n_groups"},
                                 {"mamba_d_conv", "conv_kernel"},
                                 {"mamba_expand", "expand"},
                                 {"mamba_dt_min", "time_step_min"},
                                 {"mamba_conv_bias", "use_conv_bias"},
                                 {"mlp_hidden_act", "hidden_act"},
                                 {"layer_norm_epsilon", "rms_norm_eps"},
                                 {"layer_types", "layers_block_type"}}) {
    if (all.contains(from) && !all[from].is_null()) all[to] = all[from];
  }
  all.erase("layer_types");
  const auto missing = [&](const char* key) { return !all.contains(key) || all[key].is_null(); };
  const ConfigReader config(all, file);
  if (missing("layers_block_type") && !missing("hybrid_override_pattern")) {
    Json kinds = Json::array();
    for (const char letter : config.text("hybrid_override_pattern", "")) {
      const char* kind = letter == 'M'   ? "linear_attention"
                         : letter == 'E' ? "moe"
                         : letter == '*' ? "full_attention"
                         : letter == '-' ? "mlp"
                                         : nullptr;
      if (!kind) throw config.refuse("hybrid_override_pattern", "a word of the letters M, E, *, -");
      kinds.push_back(kind);
    }
    all["layers_block_type"] = kinds;
  }
  if (missing("layers_block_type"))
    all["layers_block_type"] = {"linear_attention", "moe", "full_attention", "mlp"};
  if (missing("num_hidden_layers") && all["layers_block_type"].is_array())
    all["num_hidden_layers"] = all["layers_block_type"].size();
}

// Granite 4: Mamba and attention in turns, experts beside an MLP that every token goes through.
void read_granite_hybrid(const ConfigReader& config, ModelSpec& spec) {
  read_granite(config, spec);
  spec.mlp_bias = false;
  const std::string positions = config.text("position_embedding_type", "");
  const MixerPtr mamba = make_mixer("mamba2", config);
  const auto kinds =
      read_kinds(config, spec, "layer_types", {"full_attention", "linear_attention"});
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (positions != "rope") spec.layer[i].rope = kNoRope;
    if (kinds[i] == "linear_attention") spec.layer[i].mixer = mamba;
  }
  constexpr MlpNames kNames = {"gate_proj", "up_proj", "output_linear"};
  spec.mlp_place = "shared_mlp.";
  spec.mlp = kNames;
  spec.gate_up = "input_linear";
  const int64_t shared = config.size("shared_intermediate_size");
  if (!config.find("num_experts") || *config.find("num_experts") == 0) {
    spec.intermediate = shared;
    return;
  }
  read_experts(config, spec);
  ExpertsSpec& e = spec.experts;
  e.intermediate = spec.intermediate;
  e.router = Router::kChosenSoftmax;
  e.module = "block_sparse_moe";
  e.gate_name = "router.layer";
  e.shown_split = true;
  e.shared = spec.mlp_place;
  e.shared_switch = "";
  e.shared_names = kNames;
  e.shared_gate_up = spec.gate_up;
  e.shared_intermediate = shared;
}

void read_falcon_h1(const ConfigReader& config, ModelSpec& spec) {
  read_llama(config, spec);
  spec.norms = {"input_layernorm", "", "pre_ff_layernorm", ""};
  spec.final_norm = "final_layernorm";
  spec.mlp_place = "feed_forward.";
  const auto multiplier = [&](std::string_view key) {
    return config.find(key) ? static_cast<float>(config.number(key)) : 1.0f;
  };
  spec.embedding_multiplier = multiplier("embedding_multiplier");
  spec.logit_multiplier = multiplier("lm_head_multiplier");
  spec.key_multiplier = multiplier("key_multiplier");
  if (config.find("mlp_multipliers")) {
    const std::vector<double> both = config.numbers("mlp_multipliers");
    if (both.size() != 2) throw config.refuse("mlp_multipliers", "a list of two numbers");
    spec.gate_multiplier = static_cast<float>(both[0]);
    spec.mlp_multiplier = static_cast<float>(both[1]);
  }
  if (config.find("layer_types")) read_kinds(config, spec, "layer_types", {"hybrid"});
  const MixerPtr mixer = make_mixer("attention_mamba2", config);
  for (LayerSpec& layer : spec.layer) layer.mixer = mixer;
}

constexpr Family kHybridsRows[] = {
    {"falcon_h1",
     R"({"vocab_size": 128000, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "mamba_d_ssm": 1024,
         "mamba_n_heads": 128, "mamba_d_head": "auto", "mamba_n_groups": 1, "mamba_d_state": 256,
         "mamba_d_conv": 4, "mamba_expand": 2})",
     "embedding_multiplier key_multiplier layer_types lm_head_multiplier mamba_n_heads "
     "mlp_multipliers",
     read_falcon_h1},
    {"granitemoehybrid",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "embedding_multiplier": 1, "logits_scaling": 1, "residual_multiplier": 1,
         "attention_multiplier": 1, "num_experts": 8, "num_experts_per_tok": 2,
         "shared_intermediate_size": 1024, "mamba_n_heads": 128, "mamba_n_groups": 1,
         "mamba_d_state": 256, "mamba_d_head": "auto", "mamba_d_conv": 4, "mamba_expand": 2})",
     "attention_multiplier embedding_multiplier layer_types logits_scaling mamba_n_heads "
     "num_experts residual_multiplier shared_intermediate_size",
     read_granite_hybrid},
    {"lfm2",
     R"({"vocab_size": 65536, "hidden_size": 2560, "intermediate_size": 12288,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "max_position_embeddings": 128000, "rope_theta": 1000000, "norm_eps": 1e-5,
         "block_auto_adjust_ff_dim": true, "block_ffn_dim_multiplier": 1.0,
         "block_multiple_of": 256, "conv_L_cache": 3})",
     "conv_L_cache full_attn_idxs layer_types", read_lfm2, "", rename_lfm2},
    {"nemotron_h",
     R"({"vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 21504,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
         "max_position_embeddings": 4096, "layer_norm_epsilon": 1e-5, "mlp_hidden_act": "relu2",
         "ssm_state_size": 128, "mamba_num_heads": 128, "mamba_head_dim": 64, "n_groups": 8,
         "conv_kernel": 4, "time_step_min": 0.001, "n_routed_experts": 8,
         "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688,
         "num_experts_per_tok": 2, "routed_scaling_factor": 1, "n_group": 1, "topk_group": 1})",
     "hybrid_override_pattern layer_types layers_block_type mamba_num_heads moe_intermediate_size "
     "moe_latent_size moe_shared_expert_intermediate_size n_group n_routed_experts "
     "n_shared_experts routed_scaling_factor ssm_state_size",
     read_nemotron_h, "", rename_nemotron_h},
};

}  // namespace

extern const std::span<const Family> kHybrids;
constinit const std::span<const Family> kHybrids = kHybridsRows;

}  // namespace lewis
