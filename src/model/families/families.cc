// The families of models: what config.json of each model_type means. Families whose blocks are
// alike are a kin, a file each: a row per family says what transformers assumes where config.json
// is silent, which settings it reads, and how.
#include <algorithm>
#include <array>
#include <ranges>

#include "base/suggest.h"
#include "model/families/family.h"

namespace lewis {

extern const std::span<const Family> kLlamas;       // llama.cc: also arcee, granite, apertus
extern const std::span<const Family> kMistrals;     // mistral.cc: one window; also mixtral, phi3
extern const std::span<const Family> kWithoutRope;  // no_rope.cc: some layers have none; llama4
extern const std::span<const Family> kOlmos;        // olmo.cc: norms behind attention and MLP
extern const std::span<const Family> kGlms;         // glm.cc: rope of a part of each head
extern const std::span<const Family> kGemmas;       // gemma.cc: the first three
extern const std::span<const Family> kGemma4;       // gemma4.cc: keys and values read again
extern const std::span<const Family> kQwens;        // qwen.cc: also the gated delta rule
extern const std::span<const Family> kHybrids;      // hybrid.cc: Mamba 2 or short convolutions
extern const std::span<const Family> kDeepseeks;    // deepseek.cc: latent attention
extern const std::span<const Family> kGptOss;       // gpt_oss.cc: sinks, experts with biases

namespace {

constexpr std::array kKins = {&kLlamas, &kMistrals, &kWithoutRope, &kOlmos,     &kGlms,  &kGemmas,
                              &kGemma4, &kQwens,    &kHybrids,     &kDeepseeks, &kGptOss};

constexpr std::string_view kDefaults = R"({"hidden_act": "silu", "rms_norm_eps": 1e-6,
    "rope_theta": 10000})";

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

const Family* family_named(std::string_view name) {
  for (const auto* kin : kKins) {
    const auto family = std::ranges::find(*kin, name, &Family::model_type);
    if (family != kin->end()) return &*family;
  }
  return nullptr;
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
  for (const auto* kin : kKins) {
    for (const Family& family : *kin) names.push_back(family.model_type);
  }
  for (const Multimodal& m : kMultimodal) names.push_back(m.model_type);
  std::ranges::sort(names);
  return names;
}

}  // namespace lewis
