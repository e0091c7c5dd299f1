// The families of models: what config.json of each model_type means. Each family is a row of
// kFamilies; read_common reads what all rows share.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>

#include "base/json.h"
#include "base/suggest.h"
#include "io/layer_kinds.h"
#include "io/tied_head.h"
#include "model/config_reader.h"
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

  bool reads(std::string_view key) const {
    return fmt::format(" {} ", mechanisms).find(fmt::format(" {} ", key)) != std::string::npos;
  }
};

constexpr std::string_view kDefaults = R"({"hidden_act": "silu", "rms_norm_eps": 1e-6,
    "rope_theta": 10000})";

// Windows: layer_types where the file has it, else the family's rule (io/layer_kinds.h).
void read_windows(const ConfigReader& config, ModelSpec& spec) {
  const Json* types = config.find("layer_types");
  if (types && (!types->is_array() || types->size() != spec.layer.size())) {
    throw config.refuse("layer_types", fmt::format("a list of {} layers", spec.layers));
  }
  config.boolean("use_sliding_window", false);  // must be true or false, and a number
  if (config.find("max_window_layers")) config.count("max_window_layers");
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const Json type = layer_kind(config.json(), "layer_types", static_cast<int64_t>(i));
    if (type != "sliding_attention" && type != "full_attention") {
      throw config.refuse("layer_types", fmt::format("full_attention or sliding_attention for "
                                                     "layer {}, not {}",
                                                     i, type.dump()));
    }
    if (type == "sliding_attention") spec.layer[i].window = config.size("sliding_window");
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

void read_qwen3(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.qk_norm = QkNorm::kHead;
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
  spec.fused_qkv = spec.fused_gate_up = true;
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
  spec.fused_gate_up = true;
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

void read_mixtral(const ConfigReader& config, ModelSpec& spec) {
  read_experts(config, spec);
  spec.experts.intermediate = spec.intermediate;
  spec.experts.normalize = true;
  spec.experts.module = "block_sparse_moe";
  spec.experts.names = {"w1", "w3", "w2"};
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

constexpr Family kFamilies[] = {
    // sorted by model_type
    {"cohere2",
     R"({"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528,
         "num_hidden_layers": 40, "num_attention_heads": 64, "max_position_embeddings": 8192,
         "layer_norm_eps": 1e-5, "logit_scale": 0.0625, "sliding_window": 4096,
         "sliding_window_pattern": 4})",
     "logit_scale sliding_window sliding_window_pattern", read_cohere2},
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
    {"granite",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "embedding_multiplier": 1, "logits_scaling": 1, "residual_multiplier": 1,
         "attention_multiplier": 1})",
     "attention_multiplier embedding_multiplier logits_scaling residual_multiplier", read_granite},
    {"llama",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048})",
     "", read_llama},
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
    {"olmo2",
     R"({"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-5})",
     "", read_olmo2},
    {"phi3",
     R"({"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
         "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5})",
     "partial_rotary_factor sliding_window", read_phi3},
    {"qwen2",
     R"({"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
         "max_position_embeddings": 32768, "sliding_window": 4096, "max_window_layers": 28})",
     "sliding_window use_sliding_window", read_qwen2},
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
    {"qwen3_moe",
     R"({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
         "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 4,
         "max_position_embeddings": 32768, "sliding_window": 4096, "decoder_sparse_step": 1,
         "moe_intermediate_size": 768, "num_experts_per_tok": 8, "num_experts": 128})",
     "moe_intermediate_size num_experts sliding_window use_sliding_window", read_qwen3_moe},
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
};
constexpr Multimodal kMultimodal[] = {
    {"gemma3", "gemma3_text"}, {"llava", "llama"}, {"mistral3", "mistral"}};

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
    {"attn_logit_softcapping"},
    {"clip_qkv"},
    {"embedding_multiplier", 1},
    {"final_logit_softcapping"},
    {"first_k_dense_replace"},
    {"head_dim_v"},
    {"is_encoder_decoder"},
    {"kv_lora_rank"},
    {"logit_scale", 1},
    {"logits_scaling", 1},
    {"moe_intermediate_size"},
    {"n_routed_experts"},
    {"no_rope_layer_interval"},
    {"no_rope_layers"},
    {"num_experts"},
    {"num_kv_shared_layers"},
    {"num_local_experts"},
    {"partial_rotary_factor", 1},
    {"qk_layernorm"},
    {"qk_norm"},
    {"quantization_config"},
    {"query_pre_attn_scalar"},
    {"residual_multiplier", 1},
    {"rope_interleave"},
    {"rope_local_base_freq"},
    {"rotary_dim"},
    {"rotary_pct", 1},
    {"shared_expert_intermediate_size"},
    {"sliding_window"},
    {"sliding_window_pattern"},
    {"text_config"},
    {"use_alibi"},
    {"use_bidirectional_attention"},
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
void check_layer_types(const ConfigReader& config, const ModelSpec& spec) {
  const Json* types = config.find("layer_types");
  for (size_t i = 0; types && i < spec.layer.size(); ++i) {
    const char* type = spec.layer[i].window ? "sliding_attention" : "full_attention";
    if (!types->is_array() || types->size() != spec.layer.size() || (*types)[i] != type) {
      throw config.refuse("layer_types", fmt::format("{} for layer {}", type, i));
    }
  }
}

Activation read_activation(const ConfigReader& config) {
  struct Name {
    std::string_view name;
    Activation activation;
  };
  static constexpr Name kNames[] = {{"silu", Activation::kSilu},
                                    {"swish", Activation::kSilu},
                                    {"gelu", Activation::kGelu},
                                    {"gelu_new", Activation::kGeluTanh},
                                    {"gelu_pytorch_tanh", Activation::kGeluTanh}};
  // Gemma's own key; its hidden_act is a remnant.
  const std::string_view key =
      config.find("hidden_activation") ? "hidden_activation" : "hidden_act";
  const std::string text = config.text(key, "silu");
  const auto name = std::ranges::find(kNames, std::string_view(text), &Name::name);
  if (name == std::end(kNames)) {
    throw config.refuse(key, "one of silu, gelu, gelu_new, gelu_pytorch_tanh");
  }
  return name->activation;
}

constexpr int64_t kMaxHeadDim = 4096;  // far above any model's; larger is a broken file

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

// The rope of the layers that see everything (Gemma 3 in transformers 5 has one per kind of layer).
RopeSpec read_main_rope(const ConfigReader& config, const ModelSpec& spec, const Family& family) {
  const auto all = rope_object(config);
  const bool nested = all && all->find("full_attention") && family.reads("rope_local_base_freq");
  const auto object = nested ? all->object("full_attention") : all;
  RopeSpec rope = read_rope(config, object, spec.head_dim, config.positive("rope_theta"));
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
  spec.activation = read_activation(config);
  spec.max_positions = config.size("max_position_embeddings");
  spec.ropes = {read_main_rope(config, spec, family)};
  if (spec.ropes[0].dynamic_factor > 1) {
    spec.max_positions = static_cast<int64_t>(static_cast<double>(spec.max_positions) *
                                              spec.ropes[0].dynamic_factor);
  }
  spec.tied_head = config.boolean("tie_word_embeddings", config_ties_head(config.json()));
  spec.layer.resize(static_cast<size_t>(spec.layers));
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
  if (!text) throw reader.refuse("text_config", "the settings of the text model");
  Json keys = text->json();
  if (!text->find("model_type")) keys["model_type"] = multimodal->text;
  for (const char* shared : {"tie_word_embeddings", "quantization_config"}) {
    if (reader.find(shared)) keys[shared] = config[shared];
  }
  return keys;
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
  Json all = Json::parse(kDefaults);
  all.update(Json::parse(family.defaults));
  all.update(keys);
  const ConfigReader reader(all, file);
  refuse_unknown_mechanisms(reader, family);
  ModelSpec spec = read_common(reader, family);
  family.read_own(reader, spec);
  check_layer_types(reader, spec);
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
