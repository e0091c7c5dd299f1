#include "io/extra_parts.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/json.h"
#include "io/layer_kinds.h"
#include "io/layer_name.h"
#include "io/tensor_names.h"

namespace lewis {
namespace {

// The values of model_type of which transformers 5.24 names MTP tensors that it drops on load
// (_keys_to_ignore_on_load_unexpected in models/*/modeling_*.py); of some only text models.
constexpr auto kDropsMtp = std::to_array<std::string_view>(
    {"bailing_hybrid", "deepseek_v3",   "deepseek_v32",     "deepseek_v4",     "ernie4_5_moe",
     "exaone4_5",      "exaone_moe",    "glm4_moe",         "glm4_moe_lite",   "glm4v_moe",
     "glm5_next",      "glm_moe_dsa",   "glm_ocr",          "granite_docling", "hy_v3",
     "hy_v4",          "hy_v4_vl",      "inkling",          "longcat_flash",   "mellum",
     "mimo_v2_flash",  "minimax_m3_vl", "mistral_large4",   "nemotron_h",      "olmo_hybrid",
     "qwen3_5",        "qwen3_5_moe",   "qwen3_5_moe_text", "qwen3_5_text",    "qwen3_next",
     "qwen4_exp"});

// The classes of transformers 5.24 that load the text model of a model that sees, and drop
// model.visual.
constexpr auto kTextClasses = std::to_array<std::string_view>(
    {"Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "Qwen4ExpForCausalLM"});

// Layers of the published models that those names are written for (transformers 5.24).
struct DroppedLayers {
  std::string_view model_type;
  std::array<int64_t, 2> layers;
};
constexpr auto kDroppedLayers = std::to_array<DroppedLayers>({{"deepseek_v3", {61, 61}},
                                                              {"deepseek_v32", {61, 61}},
                                                              {"glm4_moe", {92, 46}},
                                                              {"glm4_moe_lite", {47, 47}},
                                                              {"glm_moe_dsa", {78, 78}}});

struct Tower {
  std::string_view part, config;  // a part of a tensor's name; the key with the tower's settings
};
constexpr auto kTowers = std::to_array<Tower>({{"visual", "vision_config"},
                                               {"vision_tower", "vision_config"},
                                               {"vision_model", "vision_config"},
                                               {"vision_encoder", "vision_config"},
                                               {"vision_embedder", "vision_config"},
                                               {"vision_adapter", "vision_config"},
                                               {"vision_projection", "vision_config"},
                                               {"embed_vision", "vision_config"},
                                               {"image_newline", "vision_config"},
                                               {"mm_projector", "vision_config"},
                                               {"multi_modal_projector", "vision_config"},
                                               {"connector", "vision_config"},
                                               {"audio_tower", "audio_config"},
                                               {"audio_encoder", "audio_config"},
                                               {"embed_audio", "audio_config"},
                                               {"talker", "talker_config"},
                                               {"token2wav", "token2wav_config"},
                                               {"code2wav", "code2wav_config"}});

constexpr auto kPromises = std::to_array<std::string_view>(
    {"num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers"});

bool is_mtp_part(std::string_view part) {
  return part == "mtp" || part.starts_with("mtp_") || part == "nextn";
}

std::string text_of(const Json& config, std::string_view key) {
  const auto found = config.find(key);
  return found != config.end() && found->is_string() ? found->get<std::string>() : "";
}

int64_t whole_number(const Json& config, std::string_view key) {
  const auto found = config.find(key);
  return found != config.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

bool has(const Json& config, std::string_view key) {
  const auto found = config.find(key);
  return found != config.end() && !found->is_null();
}

bool drops_mtp(const Json& config) {
  const auto listed = [](const std::string& type) {
    return std::ranges::find(kDropsMtp, std::string_view(type)) != kDropsMtp.end();
  };
  return listed(text_of(config, "model_type")) || listed(text_of(text_part(config), "model_type"));
}

// The class that transformers loads the model with, if it is one of kTextClasses.
std::string text_class(const Json& config) {
  const auto classes = config.find("architectures");
  if (classes == config.end() || !classes->is_array() || classes->empty()) return "";
  const Json& first = classes->front();
  if (!first.is_string()) return "";
  const auto name = first.get<std::string>();
  return std::ranges::find(kTextClasses, std::string_view(name)) == kTextClasses.end() ? "" : name;
}

}  // namespace

bool makes_keys(std::string_view tensor) {
  return std::ranges::any_of(
      std::array{".k_proj.", ".v_proj.", ".k_norm.", ".v_norm."},
      [&](std::string_view part) { return tensor.find(part) != tensor.npos; });
}

std::optional<ExtraPart> extra_part(std::string_view tensor, int64_t layers) {
  const LayerName name = split_layer(tensor);
  for (std::string_view rest = name.prefix; !rest.empty();) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string_view part = rest.substr(0, dot);
    if (is_mtp_part(part))
      return ExtraPart{ExtraKind::kMtp, fmt::format("multi-token prediction ({})", part), ""};
    const auto tower = std::ranges::find(kTowers, part, &Tower::part);
    if (tower != kTowers.end())
      return ExtraPart{ExtraKind::kTower, fmt::format("the part {}", part),
                       std::string(tower->config)};
    rest.remove_prefix(std::min(dot + 1, rest.size()));
  }
  if (layers <= 0 || !name.layer || *name.layer < layers) return std::nullopt;
  if (!canonical_name(tensor).starts_with("layers.")) return std::nullopt;
  return ExtraPart{
      ExtraKind::kMtp,
      fmt::format("layers behind the {} that config.json counts (multi-token prediction)", layers),
      ""};
}

std::optional<ExtraPart> extra_part(std::string_view tensor, const Json& config) {
  const Json& text = text_part(config);
  const int64_t layers = whole_number(text, "num_hidden_layers");
  const int64_t shared = whole_number(text, "num_kv_shared_layers");
  if (auto part = extra_part(tensor, layers)) return part;
  const auto layer = tensor_layer(tensor);
  const bool reads_others = layer && *layer < layers && *layer >= layers - shared;
  if (!reads_others || !text_of(text, "model_type").starts_with("gemma4") || !makes_keys(tensor))
    return std::nullopt;
  return ExtraPart{ExtraKind::kUnreadKeys,
                   "keys and values of layers that read those of earlier ones", ""};
}

bool is_mtp(std::string_view tensor, const Json& config) {
  const auto part = extra_part(tensor, config);
  return part && part->kind == ExtraKind::kMtp;
}

std::string why_not_loaded(const ExtraPart& part, const Json& config) {
  if (!config.is_object() || config.empty()) return "";
  if (part.kind == ExtraKind::kUnreadKeys) {
    const int64_t shared = whole_number(text_part(config), "num_kv_shared_layers");
    if (shared <= 0) return "";
    return fmt::format("transformers drops them on load (num_kv_shared_layers = {})", shared);
  }
  if (part.kind == ExtraKind::kMtp) {
    return drops_mtp(config) ? fmt::format("transformers drops them on load for model_type '{}'",
                                           text_of(config, "model_type"))
                             : "transformers does not load them";
  }
  if (const std::string name = text_class(config); !name.empty())
    return fmt::format("config.json names {}, which drops them on load", name);
  return has(config, part.config) ? "" : fmt::format("config.json has no {}", part.config);
}

std::span<const int64_t> numbers_of_dropped_layers(const Json& config) {
  const std::string type = text_of(config, "model_type");
  const auto row =
      std::ranges::find(kDroppedLayers, std::string_view(type), &DroppedLayers::model_type);
  return row == kDroppedLayers.end() ? std::span<const int64_t>() : std::span(row->layers);
}

std::vector<std::string> mtp_promises(const Json& config) {
  std::vector<std::string> promises;
  const auto look = [&](const Json& part) {
    for (const std::string_view key : kPromises) {
      if (const int64_t n = whole_number(part, key); n > 0)
        promises.push_back(fmt::format("{} = {}", key, n));
    }
  };
  look(config);
  if (const Json& text = text_part(config); &text != &config) look(text);
  return promises;
}

int64_t promised_mtp_layers(const Json& config) {
  int64_t most = 0;
  for (const Json* part : {&config, &text_part(config)}) {
    for (const std::string_view key : kPromises) most = std::max(most, whole_number(*part, key));
  }
  return most;
}

void withdraw_mtp_promises(Json& config) {
  for (Json* part : {&config, &text_part(config)}) {
    for (const std::string_view key : kPromises) {
      if (whole_number(*part, key) > 0) (*part)[std::string(key)] = 0;
    }
  }
}

}  // namespace lewis
