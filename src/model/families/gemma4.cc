// Gemma 4: heads of two widths, keys and values that later layers read again, embeddings per layer,
// experts beside the MLP.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <span>

#include "model/families/family.h"
#include "model/rope.h"

namespace lewis {
namespace {

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

constexpr Family kGemma4Rows[] = {
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
};

}  // namespace

extern const std::span<const Family> kGemma4;
constinit const std::span<const Family> kGemma4 = kGemma4Rows;

}  // namespace lewis
