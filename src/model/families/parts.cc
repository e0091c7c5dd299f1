// What several kins of families read alike.
#include <algorithm>
#include <numeric>

#include "io/layer_kinds.h"
#include "model/families/family.h"
#include "model/rope.h"

namespace lewis {

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

void read_granite(const ConfigReader& config, ModelSpec& spec) {
  read_llama(config, spec);
  spec.embedding_multiplier = static_cast<float>(config.positive("embedding_multiplier"));
  spec.residual_multiplier = static_cast<float>(config.positive("residual_multiplier"));
  spec.attention_scale = static_cast<float>(config.positive("attention_multiplier"));
  spec.logit_multiplier = static_cast<float>(1 / config.positive("logits_scaling"));
}

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

void expect_mtp_layers(const ConfigReader& config, ModelSpec& spec) {
  if (!config.find("num_nextn_predict_layers") && !config.find("num_mtp_layers"))
    spec.mtp_layers = 1;
}

}  // namespace lewis
