// What all families read of config.json.
#include <algorithm>
#include <cmath>
#include <optional>

#include "io/extra_parts.h"
#include "io/tied_head.h"
#include "model/families/family.h"
#include "model/rope.h"

namespace lewis {

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

namespace {

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

}  // namespace

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

}  // namespace lewis
