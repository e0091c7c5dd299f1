// The families of models: what config.json of each model_type means. Each family is a row of
// kFamilies; read_common reads what all rows share.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <span>

#include "base/json.h"
#include "base/suggest.h"
#include "io/extra_parts.h"
#include "io/layer_kinds.h"
#include "io/tied_head.h"
#include "model/config_reader.h"
#include "model/mixer.h"
#include "model/model_spec.h"
#include "model/rope.h"

namespace lewis {
namespace {

struct Family {
  std::string_view model_type;
  // The values that transformers assumes where config.json is silent, beyond kDefaults. (The
  // default of tie_word_embeddings is in io/tied_head.cc.)
  std::string_view defaults;
  // The keys of kMechanisms that the family reads, between blanks.
  std::string_view mechanisms;
  // Reads what only this family has; everything else is in `spec` already.
  void (*read_own)(const ConfigReader& config, ModelSpec& spec);
  // Keys of the rope's object that other families do not have (read_rope), between blanks.
  std::string_view rope_keys = "";
  // Makes the names of keys those that read_common reads; `all` has the defaults, too.
  void (*rename)(std::string_view file, Json& all) = nullptr;

  bool reads(std::string_view key) const {
    return fmt::format(" {} ", mechanisms).find(fmt::format(" {} ", key)) != std::string::npos;
  }
};

constexpr int64_t kMaxHeadDim = 4096;  // far above any model's; larger is a broken file

constexpr std::string_view kDefaults = R"({"hidden_act": "silu", "rms_norm_eps": 1e-6,
    "rope_theta": 10000})";

// The kinds of the layers under `key`, each one of `known`: from the list of config.json where the
// file has it, else by the family's rule (io/layer_kinds.h).
std::vector<std::string> read_kinds(const ConfigReader& config, const ModelSpec& spec,
                                    std::string_view key,
                                    std::initializer_list<std::string_view> known) {
  const Json* list = config.find(key);
  if (list && (!list->is_array() || list->size() != spec.layer.size())) {
    throw config.refuse(key, fmt::format("a list of {} layers, not of {}", spec.layers,
                                         list->is_array() ? list->size() : 1));
  }
  std::vector<std::string> kinds;
  for (int64_t i = 0; i < spec.layers; ++i) {
    Json kind = layer_kind(config.json(), key, i);
    // The names of transformers 4.
    if (kind == "mamba") kind = "linear_attention";
    if (kind == "attention") kind = "full_attention";
    if (!kind.is_string() || std::ranges::find(known, kind.get<std::string>()) == known.end()) {
      throw config.refuse(
          key, fmt::format("{} for layer {}, not {}", fmt::join(known, " or "), i, kind.dump()));
    }
    kinds.push_back(kind.get<std::string>());
  }
  return kinds;
}

// Windows of a family whose layers see all before them or the last sliding_window of it.
void read_windows(const ConfigReader& config, ModelSpec& spec) {
  config.boolean("use_sliding_window", false);  // must be true or false, and a number
  if (config.find("max_window_layers")) config.count("max_window_layers");
  const auto kinds =
      read_kinds(config, spec, "layer_types", {"full_attention", "sliding_attention"});
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] == "sliding_attention") spec.layer[i].window = config.size("sliding_window");
  }
}

void read_window_of_all(const ConfigReader& config, ModelSpec& spec) {
  if (!config.find("sliding_window")) return;
  for (LayerSpec& layer : spec.layer) layer.window = config.size("sliding_window");
}

void read_llama(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.mlp_bias = config.boolean("mlp_bias", false);
}

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

void read_phi3(const ConfigReader& config, ModelSpec& spec) {
  spec.fused_qkv = true;
  spec.gate_up = "gate_up_proj";
  read_window_of_all(config, spec);
}

void read_olmo2(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.qk_norm = QkNorm::kWhole;
  spec.norms = {"", "post_attention_layernorm", "", "post_feedforward_layernorm"};
}

void read_granite(const ConfigReader& config, ModelSpec& spec) {
  read_llama(config, spec);
  spec.embedding_multiplier = static_cast<float>(config.positive("embedding_multiplier"));
  spec.residual_multiplier = static_cast<float>(config.positive("residual_multiplier"));
  spec.attention_scale = static_cast<float>(config.positive("attention_multiplier"));
  spec.logit_multiplier = static_cast<float>(1 / config.positive("logits_scaling"));
}

void read_smollm3(const ConfigReader& config, ModelSpec& spec) {
  read_llama(config, spec);
  config.size("no_rope_layer_interval");                                 // must be a number
  const std::vector<int64_t> listed = config.indices("no_rope_layers");  // 0: without rope
  if (!listed.empty() && static_cast<int64_t>(listed.size()) != spec.layers) {
    throw config.refuse("no_rope_layers", fmt::format("a list of {} layers", spec.layers));
  }
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const Json has_rope = layer_kind(config.json(), "no_rope_layers", static_cast<int64_t>(i));
    spec.layer[i].rope = has_rope != 0 ? 0 : kNoRope;
  }
  read_windows(config, spec);
}

void read_starcoder2(const ConfigReader& config, ModelSpec& spec) {
  spec.norm = {NormKind::kLayer, static_cast<float>(config.positive("norm_epsilon")), true};
  spec.qkv_bias = spec.o_bias = spec.mlp_bias = config.boolean("use_bias", true);
  spec.mlp = {"", "c_fc", "c_proj"};
  read_window_of_all(config, spec);
}

// Layers without a window have no rope.
void read_cohere2(const ConfigReader& config, ModelSpec& spec) {
  spec.norm = {NormKind::kLayer, static_cast<float>(config.positive("layer_norm_eps"))};
  spec.norms = {"input_layernorm", "", "", ""};
  spec.parallel = true;
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.logit_multiplier = static_cast<float>(config.positive("logit_scale"));
  spec.ropes[0].pairs = RopePairs::kNeighbours;
  config.size("sliding_window_pattern");  // must be a number
  read_windows(config, spec);
  for (LayerSpec& layer : spec.layer) layer.rope = layer.window ? 0 : kNoRope;
}

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

void read_experts(const ConfigReader& config, ModelSpec& spec) {
  ExpertsSpec& e = spec.experts;
  e.count = config.parts("num_experts");
  e.chosen = config.size("num_experts_per_tok");
  if (e.chosen > e.count) {
    throw config.refuse("num_experts_per_tok", fmt::format("at most {} (num_experts)", e.count));
  }
  for (LayerSpec& layer : spec.layer) layer.routed = true;
}

// Experts with the names of Mixtral's, as wide as intermediate_size says.
void read_mixtral_experts(const ConfigReader& config, ModelSpec& spec) {
  read_experts(config, spec);
  spec.experts.intermediate = spec.intermediate;
  spec.experts.module = "block_sparse_moe";
  spec.experts.names = {"w1", "w3", "w2"};
}

void read_mixtral(const ConfigReader& config, ModelSpec& spec) {
  read_mixtral_experts(config, spec);
  spec.experts.normalize = true;
  read_window_of_all(config, spec);
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

void read_seed_oss(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = config.boolean("attention_bias", true);
  spec.o_bias = config.boolean("attention_out_bias", false);
  spec.mlp_bias = config.boolean("mlp_bias", false);
}

// Layers without a window have no rope, unless no layer has one.
void read_exaone4(const ConfigReader& config, ModelSpec& spec) {
  spec.qk_norm = QkNorm::kHead;
  spec.norms = {"", "post_attention_layernorm", "", "post_feedforward_layernorm"};
  read_windows(config, spec);
  if (!config.find("sliding_window")) return;
  for (LayerSpec& layer : spec.layer) layer.rope = layer.window ? 0 : kNoRope;
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

void read_olmoe(const ConfigReader& config, ModelSpec& spec) {
  read_experts(config, spec);
  spec.experts.intermediate = spec.intermediate;
  spec.experts.normalize = config.boolean("norm_topk_prob", false);
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.qk_norm = QkNorm::kWhole;
  spec.qkv_clip = static_cast<float>(config.positive_or("clip_qkv", 0));
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

// The first Gemma; "gelu" in its files means the tanh form.
void read_gemma1(const ConfigReader& config, ModelSpec& spec) {
  spec.norm.plus_one = true;
  spec.embedding_multiplier = static_cast<float>(std::sqrt(static_cast<double>(spec.hidden)));
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  if (spec.activation == Activation::kGelu) spec.activation = Activation::kGeluTanh;
}

// The three positions of a token, of which images make use, are one in text.
void check_mrope(const ConfigReader& config, ModelSpec& spec) {
  const auto rope = rope_object(config);
  if (!rope || !rope->find("mrope_section")) return;
  const auto sections = rope->indices("mrope_section");
  const int64_t pairs = std::accumulate(sections.begin(), sections.end(), int64_t{0});
  if (pairs != static_cast<int64_t>(spec.ropes[0].inverse_frequency.size())) {
    throw rope->refuse("mrope_section", fmt::format("numbers that add up to {}, half of head_dim",
                                                    spec.ropes[0].inverse_frequency.size()));
  }
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

// Groups of experts, of which only the best are chosen from.
void read_groups(const ConfigReader& config, ModelSpec& spec) {
  ExpertsSpec& e = spec.experts;
  e.groups = config.parts("n_group");
  e.chosen_groups = config.parts("topk_group");
  if (e.count % e.groups != 0) {
    throw config.refuse("n_group", fmt::format("a divisor of the {} experts", e.count));
  }
  if (e.chosen_groups > e.groups || e.chosen > e.chosen_groups * (e.count / e.groups)) {
    throw config.refuse("topk_group", fmt::format("groups, of {}, that hold {} experts together",
                                                  e.groups, e.chosen));
  }
}

// The router of DeepSeek-V3 and what it shares with its like: sigmoids, a correction for the
// choice, groups of experts.
void read_grouped_router(const ConfigReader& config, ModelSpec& spec) {
  ExpertsSpec& e = spec.experts;
  e.router = Router::kSigmoid;
  e.correction = "gate.e_score_correction_bias";
  e.normalize = config.boolean("norm_topk_prob", true);
  e.scaling = static_cast<float>(config.positive("routed_scaling_factor"));
  if (config.text("scoring_func", "sigmoid") != "sigmoid")
    throw config.refuse("scoring_func", "sigmoid");
  read_groups(config, spec);
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

// The experts of DeepSeek and its like: which layers have them, their sizes, and one that every
// token goes through.
void read_deepseek_experts(const ConfigReader& config, ModelSpec& spec) {
  ExpertsSpec& e = spec.experts;
  e.count = config.parts("n_routed_experts");
  e.chosen = config.size("num_experts_per_tok");
  if (e.chosen > e.count) {
    throw config.refuse("num_experts_per_tok",
                        fmt::format("at most {} (n_routed_experts)", e.count));
  }
  e.intermediate = config.size("moe_intermediate_size");
  e.shared = "mlp.shared_experts.";
  e.shared_switch = "";
  e.shared_intermediate = e.intermediate * config.parts("n_shared_experts");
  if (config.find("moe_layer_freq") && *config.find("moe_layer_freq") != 1)
    throw config.refuse("moe_layer_freq", "1: transformers does not read it");
  if (config.find("mlp_layer_types")) {
    const auto kinds = read_kinds(config, spec, "mlp_layer_types", {"dense", "sparse"});
    for (size_t i = 0; i < kinds.size(); ++i) spec.layer[i].routed = kinds[i] == "sparse";
    return;
  }
  const int64_t dense = config.count("first_k_dense_replace");
  for (int64_t i = dense; i < spec.layers; ++i) spec.layer[static_cast<size_t>(i)].routed = true;
}

// A file that says nothing of prediction layers may have one behind the others.
void expect_mtp_layers(const ConfigReader& config, ModelSpec& spec) {
  if (!config.find("num_nextn_predict_layers") && !config.find("num_mtp_layers"))
    spec.mtp_layers = 1;
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

// Latent attention. yarn also makes scores larger, by mscale_all_dim.
void read_latent_attention(const ConfigReader& config, ModelSpec& spec) {
  const MixerPtr mixer = make_mixer("latent_attention", config);
  for (LayerSpec& layer : spec.layer) layer.mixer = mixer;
  const double dim =
      static_cast<double>(config.size("qk_nope_head_dim") + config.size("qk_rope_head_dim"));
  double scale = 1 / std::sqrt(dim);
  const auto rope = rope_object(config);
  if (rope && rope->text(rope->find("rope_type") ? "rope_type" : "type", "default") != "default" &&
      rope->find("mscale_all_dim") && rope->number("mscale_all_dim") != 0) {
    const double factor = rope->positive("factor");
    const double larger =
        factor <= 1 ? 1 : 0.1 * rope->number("mscale_all_dim") * std::log(factor) + 1;
    scale *= larger * larger;
  }
  spec.attention_scale = static_cast<float>(scale);
  if (config.boolean("rope_interleave", true)) spec.ropes[0].pairs = RopePairs::kNeighbours;
}

void read_deepseek_v2(const ConfigReader& config, ModelSpec& spec) {
  read_latent_attention(config, spec);
  spec.mlp_bias = config.boolean("mlp_bias", false);
  read_deepseek_experts(config, spec);
  ExpertsSpec& e = spec.experts;
  e.scaling = static_cast<float>(config.positive("routed_scaling_factor"));
  const std::string method = config.text("topk_method", "greedy");
  if (config.text("scoring_func", "softmax") != "softmax")
    throw config.refuse("scoring_func", "softmax");
  if (method == "group_limited_greedy") {
    read_groups(config, spec);
    e.group_score = GroupScore::kBest;
  } else if (method != "greedy") {
    throw config.refuse("topk_method", "greedy or group_limited_greedy");
  }
}

void read_deepseek_v3(const ConfigReader& config, ModelSpec& spec) {
  read_latent_attention(config, spec);
  read_deepseek_experts(config, spec);
  read_grouped_router(config, spec);
  expect_mtp_layers(config, spec);
}

// What rotates is a part of a head.
void rename_latent(std::string_view file, Json& all) {
  all["head_dim"] = ConfigReader(all, file).size("qk_rope_head_dim");
  all.erase("num_key_value_heads_");
}

// One dense layer, where no list says it.
void rename_glm4_moe_lite(std::string_view file, Json& all) {
  rename_latent(file, all);
  if (!all.contains("mlp_layer_types") || all["mlp_layer_types"].is_null())
    all["first_k_dense_replace"] = 1;
  else
    all.erase("first_k_dense_replace");
}

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

// Chunks; layers without rope, whose queries grow; experts that read what the router weighs.
void read_llama4(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.ropes[0].pairs = RopePairs::kNeighbours;
  if (config.boolean("use_qk_norm", true)) spec.qk_norm = QkNorm::kUnit;
  // Files of 2025 have a number, 4, which transformers took for true.
  const Json* tuning = config.find("attn_temperature_tuning");
  const bool tunes = tuning && tuning->is_number_integer()
                         ? *tuning != 0
                         : config.boolean("attn_temperature_tuning", true);
  if (tunes) {
    spec.query_scale_beta = static_cast<float>(config.number("attn_scale"));
    spec.query_scale_length = config.size("floor_scale");
    spec.query_scale_offset = 1;
    spec.scales_unturned_queries = true;
  }
  const std::vector<int64_t> listed = config.indices("no_rope_layers");
  if (!listed.empty() && static_cast<int64_t>(listed.size()) != spec.layers)
    throw config.refuse("no_rope_layers", fmt::format("a list of {} layers", spec.layers));
  config.size("no_rope_layer_interval");  // must be a number
  const auto kinds =
      config.find("layer_types")
          ? read_kinds(config, spec, "layer_types", {"full_attention", "chunked_attention"})
          : std::vector<std::string>();
  const int64_t chunk =
      config.find("attention_chunk_size") ? config.size("attention_chunk_size") : 0;
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const Json turns = layer_kind(config.json(), "no_rope_layers", static_cast<int64_t>(i));
    LayerSpec& layer = spec.layer[i];
    if (turns == 0) layer.rope = kNoRope;
    const bool chunked = kinds.empty() ? turns != 0 : kinds[i] == "chunked_attention";
    if (chunked && !kinds.empty() && chunk == 0)
      throw config.refuse("attention_chunk_size", "a size, as layer_types has chunked_attention");
    if (chunked) layer.chunk = chunk;
  }
  spec.mlp_place = "feed_forward.";
  read_experts(config, spec);
  ExpertsSpec& e = spec.experts;
  e.intermediate = e.shared_intermediate = spec.intermediate;
  e.router = Router::kSigmoid;
  e.scales_input = true;
  e.module = "feed_forward";
  e.gate_name = "router";
  e.shown_split = true;
  e.shared = "feed_forward.shared_expert.";
  e.shared_switch = "";
  spec.intermediate = config.size("intermediate_size_mlp");
  const int64_t step = config.size("interleave_moe_layer_step");
  const std::vector<int64_t> routed = config.indices("moe_layers");
  for (int64_t i = 0; i < spec.layers; ++i) {
    spec.layer[static_cast<size_t>(i)].routed = config.find("moe_layers")
                                                    ? std::ranges::find(routed, i) != routed.end()
                                                    : (i + 1) % step == 0;
  }
}

// The kinds of Gemma 4's layers; transformers makes the last one see everything.
std::vector<std::string> gemma4_kinds(const ConfigReader& config, const ModelSpec& spec) {
  auto kinds = read_kinds(config, spec, "layer_types", {"full_attention", "sliding_attention"});
  kinds.back() = "full_attention";
  return kinds;
}

// per_layer_config by the number of the layer; its keys may have leading zeros ("02").
std::map<int64_t, ConfigReader> read_layer_settings(const ConfigReader& all, int64_t layers) {
  std::map<int64_t, ConfigReader> settings;
  for (const auto& [key, value] : all.json().items()) {
    int64_t layer = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), layer);
    const bool is_number = error == std::errc() && end == key.data() + key.size();
    if (!is_number || layer < 0 || layer >= layers || settings.contains(layer))
      throw all.refuse(key, fmt::format("another key: the number of one of {} layers", layers));
    const auto its = all.object(key);
    if (!its) continue;
    for (const auto& [name, unused] : its->json().items()) {
      if (name != "head_dim" && name != "num_key_value_heads") {
        throw its->refuse(name,
                          "to be absent: only head_dim and num_key_value_heads differ from "
                          "layer to layer in this family");
      }
    }
    settings.emplace(layer, *its);
  }
  return settings;
}

void check_heads(const ConfigReader& config, const HeadShape& h) {
  if (h.head_dim % 2 != 0 || h.head_dim > kMaxHeadDim) {
    throw config.refuse(config.find("head_dim") ? "head_dim" : "global_head_dim",
                        fmt::format("an even number up to {} (it is {})", kMaxHeadDim, h.head_dim));
  }
  if (h.heads % h.kv_heads != 0) {
    throw config.refuse(
        config.find("num_key_value_heads") ? "num_key_value_heads" : "num_global_key_value_heads",
        fmt::format("a divisor of num_attention_heads = {}", h.heads));
  }
}

// Heads of layers that see everything have another width, and perhaps another number of keys.
void read_gemma4_heads(const ConfigReader& config, std::span<const std::string> kinds,
                       ModelSpec& spec) {
  const bool shared = config.boolean("attention_k_eq_v", false);
  const auto own = config.object("per_layer_config");
  std::map<int64_t, ConfigReader> settings;
  if (own) settings = read_layer_settings(*own, spec.layers);
  std::map<std::string, HeadShape, std::less<>> shapes;  // of each kind
  for (int64_t i = 0; i < spec.layers; ++i) {
    const std::string& kind = kinds[static_cast<size_t>(i)];
    LayerSpec& layer = spec.layer[static_cast<size_t>(i)];
    const bool full = kind == "full_attention";
    layer.keys_are_values = full && shared;
    if (!full) layer.window = config.size("sliding_window");
    layer.rope = full ? 0 : 1;
    const auto its = settings.find(i);
    if (its != settings.end()) {
      layer.head_dim = its->second.size("head_dim", spec.head_dim);
      layer.kv_heads = its->second.size("num_key_value_heads", spec.kv_heads);
    } else if (full && !own) {
      layer.head_dim = config.size("global_head_dim", 512);
      if (shared) layer.kv_heads = config.size("num_global_key_value_heads", spec.kv_heads);
    }
    const HeadShape h = head_shape(spec, i);
    // One way to say that a layer is like the others.
    if (h.head_dim == spec.head_dim) layer.head_dim = 0;
    if (h.kv_heads == spec.kv_heads) layer.kv_heads = 0;
    check_heads(its != settings.end() ? its->second : config, h);
    if (shapes.try_emplace(kind, h).first->second != h) {
      throw config.refuse("per_layer_config",
                          fmt::format("one head_dim and one num_key_value_heads for all layers "
                                      "of a kind: layer {} is another {}",
                                      i, kind));
    }
  }
}

// The last layers read the keys and values of the last layer before them of their kind.
void share_keys(const ConfigReader& config, std::span<const std::string> kinds, ModelSpec& spec) {
  const int64_t shared =
      config.find("num_kv_shared_layers") ? config.count("num_kv_shared_layers") : 0;
  const int64_t first = spec.layers - shared;
  if (shared == 0) return;
  for (int64_t i = std::max<int64_t>(0, first); i < spec.layers; ++i) {
    int64_t source = first - 1;
    while (source >= 0 && kinds[static_cast<size_t>(source)] != kinds[static_cast<size_t>(i)])
      --source;
    if (source < 0) {
      throw config.refuse(
          "num_kv_shared_layers",
          fmt::format("so few that a layer before them has the kind of layer {}", i));
    }
    LayerSpec& layer = spec.layer[static_cast<size_t>(i)];
    layer.kv_source = static_cast<int>(source);
    layer.keys_are_values = false;
    if (config.boolean("use_double_wide_mlp", false)) layer.intermediate = 2 * spec.intermediate;
    spec.layer[static_cast<size_t>(source)].lends_kv = true;
  }
}

void read_gemma4_experts(const ConfigReader& config, ModelSpec& spec) {
  ExpertsSpec& e = spec.experts;
  e.count = config.parts("num_experts");
  e.chosen = config.size("top_k_experts");
  if (e.chosen > e.count)
    throw config.refuse("top_k_experts", fmt::format("at most {} (num_experts)", e.count));
  e.intermediate = config.size("moe_intermediate_size");
  e.normalize = e.beside_mlp = e.shown_split = true;
  e.module = "";
  e.gate_name = "router.proj";
  for (LayerSpec& layer : spec.layer) layer.routed = true;
}

void read_gemma4(const ConfigReader& config, ModelSpec& spec) {
  spec.norms = {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                "post_feedforward_layernorm"};
  spec.embedding_multiplier = static_cast<float>(std::sqrt(static_cast<double>(spec.hidden)));
  spec.attention_scale = 1;
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.logit_softcap = static_cast<float>(config.positive_or("final_logit_softcapping", 0));
  spec.qk_norm = QkNorm::kHead;
  spec.value_norm = spec.layer_scalar = true;
  if (config.text("use_bidirectional_attention", "vision") != "vision")
    throw config.refuse("use_bidirectional_attention", "vision or null: text sees what is before");
  const auto kinds = gemma4_kinds(config, spec);
  read_gemma4_heads(config, kinds, spec);
  share_keys(config, kinds, spec);
  const auto ropes = config.object("rope_parameters");
  const auto rope = [&](std::string_view kind, int64_t head_dim, double theta) {
    const auto object = ropes ? ropes->object(kind) : std::nullopt;
    RopeSpec read = read_rope(config, object, head_dim, theta, "proportional");
    if (static_cast<int64_t>(2 * read.inverse_frequency.size()) == head_dim) return read;
    throw object->refuse("partial_rotary_factor", "1, as rope_type is not proportional");
  };
  const auto dim_of = [&](std::string_view kind) {
    const auto layer = std::ranges::find(kinds, kind) - kinds.begin();
    return layer == spec.layers ? spec.head_dim : head_shape(spec, layer).head_dim;
  };
  spec.ropes = {rope("full_attention", dim_of("full_attention"), 1e6),
                rope("sliding_attention", dim_of("sliding_attention"), 1e4)};
  if (config.find("hidden_size_per_layer_input")) {
    spec.per_layer_width = config.count("hidden_size_per_layer_input");
    spec.per_layer_vocab = config.size("vocab_size_per_layer_input");
  }
  if (config.boolean("enable_moe_block", false)) read_gemma4_experts(config, spec);
}

// Kimi K2 has the configuration class of DeepSeek V3.
constexpr std::string_view kDeepseekV3Defaults =
    R"({"vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
        "num_hidden_layers": 61, "num_attention_heads": 128, "max_position_embeddings": 4096,
        "moe_intermediate_size": 2048, "n_shared_experts": 1, "n_routed_experts": 256,
        "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "q_lora_rank": 1536,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128, "n_group": 8,
        "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3})";

constexpr std::string_view kLatentKeys =
    "first_k_dense_replace kv_lora_rank moe_intermediate_size n_group n_routed_experts "
    "n_shared_experts rope_interleave routed_scaling_factor";

constexpr Family kFamilies[] = {
    // sorted by model_type
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
    {"cohere2",
     R"({"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528,
         "num_hidden_layers": 40, "num_attention_heads": 64, "max_position_embeddings": 8192,
         "layer_norm_eps": 1e-5, "logit_scale": 0.0625, "sliding_window": 4096,
         "sliding_window_pattern": 4})",
     "logit_scale sliding_window sliding_window_pattern", read_cohere2},
    {"deepseek_v2",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "moe_intermediate_size": 1407, "n_shared_experts": 2, "n_routed_experts": 64,
         "routed_scaling_factor": 1, "kv_lora_rank": 512, "q_lora_rank": 1536,
         "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
         "first_k_dense_replace": 0})",
     kLatentKeys, read_deepseek_v2, "", rename_latent},
    {"deepseek_v3", kDeepseekV3Defaults, kLatentKeys, read_deepseek_v3, "", rename_latent},
    {"ernie4_5",
     R"({"vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072,
         "num_hidden_layers": 18, "num_attention_heads": 16, "num_key_value_heads": 2,
         "head_dim": 128, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
         "rope_theta": 500000})",
     "", read_ernie4_5},
    {"exaone4",
     R"({"vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 16384,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
         "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "sliding_window": 4096,
         "sliding_window_pattern": 4})",
     "sliding_window sliding_window_pattern", read_exaone4},
    {"falcon_h1",
     R"({"vocab_size": 128000, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "mamba_d_ssm": 1024,
         "mamba_n_heads": 128, "mamba_d_head": "auto", "mamba_n_groups": 1, "mamba_d_state": 256,
         "mamba_d_conv": 4, "mamba_expand": 2})",
     "embedding_multiplier key_multiplier layer_types lm_head_multiplier mamba_n_heads "
     "mlp_multipliers",
     read_falcon_h1},
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
    {"gemma4_text",
     R"({"vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216,
         "num_hidden_layers": 30, "num_attention_heads": 8, "num_key_value_heads": 4,
         "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
         "max_position_embeddings": 131072, "sliding_window": 512,
         "vocab_size_per_layer_input": 262144, "hidden_size_per_layer_input": 256,
         "rope_parameters": {"full_attention": {"rope_type": "proportional",
         "partial_rotary_factor": 0.25, "rope_theta": 1000000},
         "sliding_attention": {"rope_type": "default", "rope_theta": 10000}}})",
     "attention_k_eq_v enable_moe_block final_logit_softcapping global_head_dim "
     "hidden_size_per_layer_input layer_types moe_intermediate_size num_experts "
     "num_global_key_value_heads num_kv_shared_layers per_layer_config rope_local_base_freq "
     "sliding_window top_k_experts use_bidirectional_attention use_double_wide_mlp",
     read_gemma4, "proportional"},
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
    {"glm4_moe_lite",
     R"({"vocab_size": 154880, "hidden_size": 2048, "intermediate_size": 10240,
         "num_hidden_layers": 47, "num_attention_heads": 20, "num_key_value_heads": 20,
         "max_position_embeddings": 202752, "rms_norm_eps": 1e-5,
         "moe_intermediate_size": 1536, "n_shared_experts": 1, "n_routed_experts": 64,
         "routed_scaling_factor": 1.8, "kv_lora_rank": 512, "q_lora_rank": 768,
         "qk_rope_head_dim": 64, "v_head_dim": 256, "qk_nope_head_dim": 192, "n_group": 1,
         "topk_group": 1, "num_experts_per_tok": 4})",
     kLatentKeys, read_deepseek_v3, "", rename_glm4_moe_lite},
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
    {"granite",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "embedding_multiplier": 1, "logits_scaling": 1, "residual_multiplier": 1,
         "attention_multiplier": 1})",
     "attention_multiplier embedding_multiplier logits_scaling residual_multiplier", read_granite},
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
    {"hunyuan_v1_dense",
     R"({"vocab_size": 290943, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-5})",
     "use_qk_norm", read_hunyuan, "alpha"},
    {"kimi_k2", kDeepseekV3Defaults, kLatentKeys, read_deepseek_v3, "", rename_latent},
    {"lfm2",
     R"({"vocab_size": 65536, "hidden_size": 2560, "intermediate_size": 12288,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "max_position_embeddings": 128000, "rope_theta": 1000000, "norm_eps": 1e-5,
         "block_auto_adjust_ff_dim": true, "block_ffn_dim_multiplier": 1.0,
         "block_multiple_of": 256, "conv_L_cache": 3})",
     "conv_L_cache full_attn_idxs layer_types", read_lfm2, "", rename_lfm2},
    {"llama",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048})",
     "", read_llama},
    {"llama4_text",
     R"({"vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192,
         "intermediate_size_mlp": 16384, "num_hidden_layers": 48, "num_attention_heads": 40,
         "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072,
         "rms_norm_eps": 1e-5, "rope_theta": 500000, "num_experts": 16,
         "num_experts_per_tok": 1,
         "interleave_moe_layer_step": 1, "no_rope_layer_interval": 4,
         "attention_chunk_size": 8192, "floor_scale": 8192, "attn_scale": 0.1})",
     "attention_chunk_size interleave_moe_layer_step layer_types moe_layers "
     "no_rope_layer_interval no_rope_layers num_experts use_qk_norm",
     read_llama4},
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
    {"seed_oss",
     R"({"vocab_size": 155136, "hidden_size": 4096, "intermediate_size": 27648,
         "num_hidden_layers": 64, "num_attention_heads": 80, "num_key_value_heads": 8,
         "head_dim": 128, "max_position_embeddings": 524288})",
     "", read_seed_oss},
    {"smollm3",
     R"({"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
         "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4,
         "max_position_embeddings": 32768, "rope_theta": 2000000, "no_rope_layer_interval": 4})",
     "no_rope_layer_interval no_rope_layers sliding_window use_sliding_window", read_smollm3},
    {"starcoder2",
     R"({"vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288,
         "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2,
         "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 4096,
         "norm_epsilon": 1e-5})",
     "sliding_window", read_starcoder2},
};

// Models that read images too: their text_config is that of a family. The tensors of the other
// parts are not read.
struct Multimodal {
  std::string_view model_type;
  std::string_view text;  // model_type of a text_config that does not name one
  bool flat = false;      // older files have the keys of the text model beside vision_config
};
constexpr Multimodal kMultimodal[] = {{"gemma3", "gemma3_text"},
                                      {"gemma4", "gemma4_text"},
                                      {"kimi_k25", "deepseek_v3"},
                                      {"llama4", "llama4_text"},
                                      {"llava", "llama"},
                                      {"mistral3", "mistral"},
                                      {"qwen2_5_vl", "qwen2_5_vl_text", true},
                                      {"qwen3_5", "qwen3_5_text"},
                                      {"qwen3_5_moe", "qwen3_5_moe_text"},
                                      {"qwen3_vl", "qwen3_vl_text"},
                                      {"qwen3_vl_moe", "qwen3_vl_moe_text"}};

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

// A family that does not read layer_types may still find them in its file: what they say must be
// what it does.
void check_layer_types(const ConfigReader& config, const Family& family, const ModelSpec& spec) {
  if (family.reads("layer_types")) return;
  const Json* types = config.find("layer_types");
  for (size_t i = 0; types && i < spec.layer.size(); ++i) {
    const char* type = spec.layer[i].window ? "sliding_attention" : "full_attention";
    if (!types->is_array() || types->size() != spec.layer.size() || (*types)[i] != type) {
      throw config.refuse("layer_types", fmt::format("{} for layer {}", type, i));
    }
  }
}

// The activation of the MLPs; xIELU where the family has it.
void read_activation(const ConfigReader& config, const Family& family, ModelSpec& spec) {
  struct Name {
    std::string_view name;
    Activation activation;
  };
  static constexpr Name kNames[] = {{"silu", Activation::kSilu},
                                    {"swish", Activation::kSilu},
                                    {"gelu", Activation::kGelu},
                                    {"gelu_new", Activation::kGeluTanh},
                                    {"gelu_pytorch_tanh", Activation::kGeluTanh},
                                    {"relu", Activation::kRelu},
                                    {"relu2", Activation::kRelu2}};
  const auto find = [&](std::string_view key) {
    const std::string text = config.text(key, "silu");
    const auto name = std::ranges::find(kNames, std::string_view(text), &Name::name);
    if (name != std::end(kNames)) return name->activation;
    throw config.refuse(key, fmt::format("one of silu, gelu, gelu_new, gelu_pytorch_tanh, relu, "
                                         "relu2{}",
                                         family.reads("xielu") ? ", xielu" : ""));
  };
  // The own key of Gemma 2 and 3, whose hidden_act is a remnant. In the first Gemma it is the other
  // way round.
  const bool own = config.find("hidden_activation");
  if (own) spec.activation = find("hidden_activation");
  spec.xielu = family.reads("xielu") && config.text("hidden_act", "") == "xielu";
  if (spec.xielu) return;
  if (!own || family.model_type == "gemma") spec.activation = find("hidden_act");
}

void read_heads(const ConfigReader& config, ModelSpec& spec) {
  spec.heads = config.size("num_attention_heads");
  spec.kv_heads = config.size("num_key_value_heads", spec.heads);
  if (spec.heads % spec.kv_heads != 0) {
    throw config.refuse("num_key_value_heads",
                        fmt::format("a divisor of num_attention_heads = {}", spec.heads));
  }
  if (!config.find("head_dim") && spec.hidden % spec.heads != 0) {
    throw config.refuse(
        "num_attention_heads",
        fmt::format("a divisor of hidden_size = {}, as there is no head_dim", spec.hidden));
  }
  spec.head_dim = config.size("head_dim", std::max<int64_t>(1, spec.hidden / spec.heads));
  if (spec.head_dim % 2 != 0 || spec.head_dim > kMaxHeadDim) {
    throw config.refuse(
        "head_dim", fmt::format("an even number up to {} (it is {})", kMaxHeadDim, spec.head_dim));
  }
  spec.attention_scale = 1.0f / std::sqrt(static_cast<float>(spec.head_dim));
}

// The object of the rope of the layers that see everything. Gemma 3 in transformers 5 has one per
// kind of layer; so has OLMo 3, which takes nothing else for a rope but rope_scaling.
std::optional<ConfigReader> main_rope_object(const ConfigReader& config, const Family& family) {
  auto all = rope_object(config);
  const bool only_nested = family.rope_keys == "full_attention";
  const bool nested = only_nested || family.reads("rope_local_base_freq");
  if (all && nested && all->find("full_attention")) return all->object("full_attention");
  if (!only_nested) return all;
  auto scaling = config.object("rope_scaling");
  if (scaling && scaling->find("type") && !scaling->find("rope_type"))
    throw scaling->refuse("type", "rope_type in its place: transformers reads no other here");
  return scaling;
}

RopeSpec read_main_rope(const ConfigReader& config, const ModelSpec& spec, const Family& family) {
  const auto object = main_rope_object(config, family);
  RopeSpec rope =
      read_rope(config, object, spec.head_dim, config.positive("rope_theta"), family.rope_keys);
  const auto rotating = static_cast<int64_t>(2 * rope.inverse_frequency.size());
  if (rotating != spec.head_dim && !family.reads("partial_rotary_factor")) {
    throw object->refuse("partial_rotary_factor", "1: all of a head rotates in this family");
  }
  return rope;
}

ModelSpec read_common(const ConfigReader& config, const Family& family) {
  ModelSpec spec;
  spec.model_type = family.model_type;
  spec.layers = config.parts("num_hidden_layers");
  spec.hidden = config.size("hidden_size");
  spec.intermediate = config.size("intermediate_size");
  spec.vocab = config.size("vocab_size");
  read_heads(config, spec);
  spec.norm.epsilon = static_cast<float>(config.positive("rms_norm_eps"));
  read_activation(config, family, spec);
  spec.max_positions = config.size("max_position_embeddings");
  spec.ropes = {read_main_rope(config, spec, family)};
  if (spec.ropes[0].dynamic_factor > 1) {
    spec.max_positions = static_cast<int64_t>(static_cast<double>(spec.max_positions) *
                                              spec.ropes[0].dynamic_factor);
  }
  spec.tied_head = config.boolean("tie_word_embeddings", config_ties_head(config.json()));
  spec.layer.resize(static_cast<size_t>(spec.layers));
  spec.mtp_layers = promised_mtp_layers(config.json());
  return spec;
}

const Family* family_named(std::string_view name) {
  const auto family = std::ranges::find(kFamilies, name, &Family::model_type);
  return family == std::end(kFamilies) ? nullptr : family;
}

const Family& find_family(const ConfigReader& config) {
  const auto known = supported_model_types();
  const std::string list = fmt::format("{}", fmt::join(known, ", "));
  if (!config.find("model_type")) {
    throw input_error("{}: key 'model_type' is missing; supported are {}", config.file(), list);
  }
  const std::string name = config.text("model_type", "");
  if (const Family* family = family_named(name)) return *family;
  throw input_error("{}: model_type '{}' is not supported; supported are {} (the nearest is '{}')",
                    config.file(), name, list, nearest_name(name, known));
}

// The keys that describe the text model: the file itself, or its text_config. What lies outside of
// that and concerns it as well comes along.
Json text_keys(const Json& config, std::string_view file) {
  const ConfigReader reader(config, file);
  const auto multimodal = std::ranges::find_if(kMultimodal, [&](const Multimodal& m) {
    return config.contains("model_type") && config["model_type"] == m.model_type;
  });
  if (multimodal == std::end(kMultimodal)) return config;
  const auto text = reader.object("text_config");
  if (!text && multimodal->flat) {
    Json flat = config;
    for (const char* other : {"vision_config", "text_config"}) flat.erase(other);
    flat["model_type"] = multimodal->text;
    return flat;
  }
  if (!text) throw reader.refuse("text_config", "the settings of the text model");
  Json keys = text->json();
  if (!text->find("model_type")) keys["model_type"] = multimodal->text;
  for (const char* shared : {"tie_word_embeddings", "quantization_config"}) {
    if (reader.find(shared)) keys[shared] = config[shared];
  }
  return keys;
}

// MiniMax-M2's files say how many values of a head rotate, transformers which share of them.
void unify_rotary_dim(Json& config, std::string_view file) {
  if (!config.contains("rotary_dim") || config["rotary_dim"].is_null()) return;
  const ConfigReader reader(config, file);
  const double dim = static_cast<double>(reader.size("rotary_dim"));
  if (!reader.find("partial_rotary_factor"))
    config["partial_rotary_factor"] = dim / static_cast<double>(reader.size("head_dim", 128));
  config.erase("rotary_dim");
}

// What the family assumes for a rope counts where the file has none.
void settle_default_rope(const Json& keys, Json& all) {
  const auto given = [&](const char* key) { return keys.contains(key) && !keys[key].is_null(); };
  if (given("rope_parameters") || !given("rope_scaling")) return;
  all.erase("rope_parameters");
}

// Two names of one key.
void unify_experts_key(Json& config, std::string_view file) {
  if (!config.contains("num_local_experts")) return;
  if (config.contains("num_experts") && config["num_experts"] != config["num_local_experts"]) {
    throw ConfigReader(config, file).refuse("num_local_experts", "the same as num_experts");
  }
  config["num_experts"] = config["num_local_experts"];
  config.erase("num_local_experts");
}

}  // namespace

ModelSpec read_model_spec(const Json& config, std::string_view file) {
  if (!config.is_object()) throw input_error("{}: expected a JSON object", file);
  Json keys = text_keys(config, file);
  const Family& family = find_family(ConfigReader(keys, file));
  if (family.reads("num_experts")) unify_experts_key(keys, file);
  if (family.reads("rotary_dim")) unify_rotary_dim(keys, file);
  if (keys.contains("rope_parameters") && keys["rope_parameters"].is_null())
    keys.erase("rope_parameters");
  Json all = Json::parse(kDefaults);
  all.update(Json::parse(family.defaults));
  all.update(keys);
  settle_default_rope(keys, all);
  if (family.rename) family.rename(file, all);
  const ConfigReader reader(all, file);
  refuse_unknown_mechanisms(reader, family);
  ModelSpec spec = read_common(reader, family);
  family.read_own(reader, spec);
  check_layer_types(reader, family, spec);
  return spec;
}

std::vector<std::string_view> supported_model_types() {
  std::vector<std::string_view> names;
  for (const Family& family : kFamilies) names.push_back(family.model_type);
  for (const Multimodal& m : kMultimodal) names.push_back(m.model_type);
  std::ranges::sort(names);
  return names;
}

}  // namespace lewis
