// The families of models: what config.json of each model_type means. A family is a row of
// kFamilies; what its rows share is read by read_common.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>

#include "base/suggest.h"
#include "model/config_reader.h"
#include "model/model_spec.h"
#include "model/rope.h"

namespace lewis {
namespace {

struct Family {
  std::string_view model_type;
  // What transformers assumes where config.json is silent.
  int64_t max_positions;
  double norm_epsilon, rope_theta;
  bool tied_head;
  // Reads what only this family has. `mechanisms` are the keys of kMechanisms that it reads.
  void (*read_own)(const ConfigReader& config, ModelSpec& spec);
  std::span<const std::string_view> mechanisms;
};

void read_llama(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.mlp_bias = config.boolean("mlp_bias", false);
}

constexpr std::array kFamilies = {
    // sorted by model_type
    Family{"llama", 2048, 1e-6, 10'000, false, read_llama, {}},
};

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
    {"sliding_window"},
    {"sliding_window_pattern"},
    {"text_config"},
    {"use_alibi"},
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
    const bool read = std::ranges::find(family.mechanisms, m.key) != family.mechanisms.end();
    if (value && !read && !changes_nothing(*value, m)) throw config.refuse(m.key, expected);
  }
  if (const Json* types = config.find("layer_types")) {
    const bool all_full = types->is_array() && std::ranges::all_of(*types, [](const Json& type) {
                            return type == "full_attention";
                          });
    if (!all_full) throw config.refuse("layer_types", "full_attention for every layer");
  }
}

Activation read_activation(const ConfigReader& config) {
  const std::string name = config.text("hidden_act", "silu");
  if (name != "silu" && name != "swish") throw config.refuse("hidden_act", "silu");
  return Activation::kSilu;
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

ModelSpec read_common(const ConfigReader& config, const Family& family) {
  ModelSpec spec;
  spec.model_type = family.model_type;
  spec.layers = config.size("num_hidden_layers");
  spec.hidden = config.size("hidden_size");
  spec.intermediate = config.size("intermediate_size");
  spec.vocab = config.size("vocab_size");
  read_heads(config, spec);
  spec.norm_epsilon = static_cast<float>(config.positive("rms_norm_eps", family.norm_epsilon));
  spec.activation = read_activation(config);
  spec.max_positions = config.size("max_position_embeddings", family.max_positions);
  spec.rope = read_rope(config, spec.head_dim, family.rope_theta);
  spec.tied_head = config.boolean("tie_word_embeddings", family.tied_head);
  return spec;
}

const Family& find_family(const ConfigReader& config) {
  const auto known = supported_model_types();
  const std::string list = fmt::format("{}", fmt::join(known, ", "));
  if (!config.find("model_type")) {
    throw input_error("{}: key 'model_type' is missing; supported are {}", config.file(), list);
  }
  const std::string name = config.text("model_type", "");
  const auto family = std::ranges::find(kFamilies, std::string_view(name), &Family::model_type);
  if (family == kFamilies.end()) {
    throw input_error(
        "{}: model_type '{}' is not supported; supported are {} (the nearest is '{}')",
        config.file(), name, list, nearest_name(name, known));
  }
  return *family;
}

}  // namespace

ModelSpec read_model_spec(const Json& config, std::string_view file) {
  if (!config.is_object()) throw input_error("{}: expected a JSON object", file);
  const ConfigReader reader(config, file);
  const Family& family = find_family(reader);
  refuse_unknown_mechanisms(reader, family);
  ModelSpec spec = read_common(reader, family);
  family.read_own(reader, spec);
  return spec;
}

std::vector<std::string_view> supported_model_types() {
  std::vector<std::string_view> names;
  for (const Family& family : kFamilies) names.push_back(family.model_type);
  return names;
}

std::vector<std::string> linear_names(const ModelSpec& spec, int64_t layer) {
  std::vector<std::string> names;
  for (const std::string_view part :
       {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
    names.push_back(fmt::format("{}layers.{}.{}", spec.prefix, layer, part));
  }
  return names;
}

}  // namespace lewis
