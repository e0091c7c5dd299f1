#include "io/layer_kinds.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "io/extra_parts.h"

namespace lewis {
namespace {

// Lists with one value for each layer; some are a single value where all layers are alike.
constexpr auto kLists = std::to_array<std::string_view>({"layer_types",
                                                         "no_rope_layers",
                                                         "mlp_layer_types",
                                                         "layers_block_type",
                                                         "block_types",
                                                         "attn_type_list",
                                                         "layer_type_list",
                                                         "attention_layers",
                                                         "moe_layer_freq",
                                                         "activation_sparsity_pattern",
                                                         "intermediate_size",
                                                         "ffn_multipliers",
                                                         "num_query_heads",
                                                         "num_kv_heads",
                                                         "num_key_value_heads",
                                                         "num_attention_heads",
                                                         "block_configs",
                                                         "sliding_window_pattern",
                                                         "hybrid_override_pattern",
                                                         "is_sliding"});

// Lists of the numbers of the layers that are special.
constexpr auto kIndices =
    std::to_array<std::string_view>({"mlp_only_layers", "attn_layer_indices", "full_attn_idxs",
                                     "cross_attention_layers", "moe_layers", "hybrid_layer_ids"});

std::optional<int64_t> integer(const Json& text, std::string_view key) {
  const auto found = text.find(key);
  if (found == text.end() || !found->is_number_integer()) return std::nullopt;
  return found->get<int64_t>();
}

bool is_true(const Json& text, std::string_view key) {
  const auto found = text.find(key);
  return found != text.end() && *found == true;
}

std::string type_of(const Json& text) {
  const auto found = text.find("model_type");
  return found != text.end() && found->is_string() ? found->get<std::string>() : "";
}

Json sliding(bool yes) { return yes ? "sliding_attention" : "full_attention"; }

// Every n-th layer is full, n being the value of `key`; EXAONE 4 may write a word instead, "LLLG".
bool is_nth(const Json& text, std::string_view key, int64_t otherwise, int64_t layer) {
  const auto word = text.find(key);
  if (word != text.end() && word->is_string() && !word->get_ref<const std::string&>().empty()) {
    const auto& letters = word->get_ref<const std::string&>();
    return letters[static_cast<size_t>(layer) % letters.size()] != 'L';
  }
  const int64_t n = integer(text, key).value_or(otherwise);
  return n > 0 && (layer + 1) % n == 0;
}

bool has_rope(const Json& text, int64_t layer) {
  return layer_kind(text, "no_rope_layers", layer) != 0;
}

bool uses_window(const Json& text) {
  return is_true(text, "use_sliding_window") && integer(text, "sliding_window").has_value();
}

// The rule of some model types for what a list says of a layer where config.json has no such list
// (transformers, the configuration_*.py of each).
struct Rule {
  std::string_view model_types;  // between blanks
  std::string_view list;
  Json (*kind)(const Json& text, int64_t layer);
};

constexpr Rule kRules[] = {
    {" gemma2 gpt_oss vaultgemma t5gemma t5_gemma_module ", "layer_types",
     [](const Json&, int64_t layer) { return sliding((layer + 1) % 2 != 0); }},
    {" gemma3_text gemma3 t5gemma2 ", "layer_types",
     [](const Json& text, int64_t layer) {
       return sliding(!is_nth(text, "sliding_window_pattern", 6, layer));
     }},
    {" gemma4_text gemma4 ", "layer_types",
     [](const Json& text, int64_t layer) {
       // transformers makes the last one see everything.
       const bool last = layer + 1 == integer(text, "num_hidden_layers").value_or(30);
       return sliding((layer + 1) % 6 != 0 && !last);
     }},
    {" cohere2 exaone4 ", "layer_types",
     [](const Json& text, int64_t layer) {
       const auto window = text.find("sliding_window");
       const bool none = window != text.end() && window->is_null();
       return sliding(!none && !is_nth(text, "sliding_window_pattern", 4, layer));
     }},
    {" olmo3 ", "layer_types",
     [](const Json&, int64_t layer) { return sliding((layer + 1) % 4 != 0); }},
    {" gemma3n_text gemma3n ", "layer_types",
     [](const Json&, int64_t layer) { return sliding((layer + 1) % 5 != 0); }},
    {" cwm ", "layer_types",
     [](const Json& text, int64_t layer) {
       const int64_t n = std::max<int64_t>(1, integer(text, "window_pattern").value_or(4));
       return sliding(layer % n != 0);
     }},
    {" afmoe ", "layer_types",
     [](const Json& text, int64_t layer) {
       return sliding(!is_nth(text, "global_attn_every_n_layers", 4, layer));
     }},
    {" qwen2 qwen3 dots1 qwen2_vl qwen2_5_vl qwen2_vl_text qwen2_5_vl_text ", "layer_types",
     [](const Json& text, int64_t layer) {
       return sliding(uses_window(text) &&
                      layer >= integer(text, "max_window_layers").value_or(28));
     }},
    {" qwen2_moe ", "layer_types",
     [](const Json& text, int64_t layer) {
       return sliding(uses_window(text) && layer % 2 == 0 &&
                      layer < integer(text, "max_window_layers").value_or(28));
     }},
    {" smollm3 llama4_text llama4 ", "no_rope_layers",
     [](const Json& text, int64_t layer) {
       return Json(is_nth(text, "no_rope_layer_interval", 4, layer) ? 0 : 1);
     }},
    {" smollm3 ", "layer_types",
     [](const Json& text, int64_t layer) {
       return sliding(uses_window(text) && !has_rope(text, layer));
     }},
    {" llama4_text llama4 ", "layer_types",
     [](const Json& text, int64_t layer) {
       const auto chunk = text.find("attention_chunk_size");
       const bool chunks = chunk == text.end() || !chunk->is_null();
       return Json(chunks && has_rope(text, layer) ? "chunked_attention" : "full_attention");
     }},
    {" qwen3_next qwen3_5_text qwen3_5_moe_text qwen3_5 qwen3_5_moe ", "layer_types",
     [](const Json& text, int64_t layer) {
       const bool full = is_nth(text, "full_attention_interval", 4, layer);
       return Json(full ? "full_attention" : "linear_attention");
     }},
    {" minimax ", "layer_types",
     [](const Json&, int64_t layer) {
       return Json((layer + 1) % 2 != 0 ? "full_attention" : "linear_attention");
     }},
    {" lfm2 lfm2_moe ", "layer_types",
     [](const Json& text, int64_t layer) {
       const auto full = text.find("full_attn_idxs");
       const bool is_full = full == text.end() || !full->is_array() ||
                            std::ranges::find(*full, Json(layer)) != full->end();
       return Json(is_full ? "full_attention" : "conv");
     }},
    {" granitemoehybrid ", "layer_types",
     [](const Json&, int64_t) { return Json("linear_attention"); }},
    {" recurrent_gemma ", "block_types",
     [](const Json& text, int64_t layer) {
       const auto types = text.find("block_types");
       if (types != text.end() && types->is_array() && !types->empty())
         return types->at(static_cast<size_t>(layer) % types->size());
       return Json(layer % 3 == 2 ? "attention" : "recurrent");
     }},
};

const Rule* find_rule(const Json& text, std::string_view list) {
  const std::string type = " " + type_of(text) + " ";
  const auto rule = std::ranges::find_if(kRules, [&](const Rule& r) {
    return r.list == list && r.model_types.find(type) != std::string_view::npos;
  });
  return rule == std::end(kRules) ? nullptr : rule;
}

// The value that a list of config.json has for a layer; null where it is no list of all layers.
Json listed(const Json& text, std::string_view key, int64_t layer) {
  const auto found = text.find(key);
  const auto layers = integer(text, "num_hidden_layers");
  if (found == text.end() || !layers || layer >= *layers) return {};
  const auto at = static_cast<size_t>(layer);
  const auto count = static_cast<size_t>(*layers);
  if (found->is_array() && found->size() == count) return found->at(at);
  // Nemotron-H: a letter for each layer.
  if (found->is_string() && key == "hybrid_override_pattern") {
    const auto& letters = found->get_ref<const std::string&>();
    if (letters.size() == count) return std::string(1, letters[at]);
  }
  return {};
}

bool lists_layers(const Json& text, std::string_view key) {
  return !listed(text, key, 0).is_null();
}

// ---- rules that go by a layer's number and that no list replaces ----

// How a number of config.json makes kinds of layers. Two layers are of one kind where the values
// are equal.
struct NumberRule {
  std::string_view key;
  int64_t (*kind)(int64_t value, int64_t layer);
};
int64_t modulo(int64_t value, int64_t layer) { return value > 0 ? layer % value : 0; }
int64_t below(int64_t value, int64_t layer) { return layer < value ? 1 : 0; }

constexpr NumberRule kNumberRules[] = {
    {"sliding_window_pattern", modulo},
    {"no_rope_layer_interval", modulo},
    {"full_attention_interval", modulo},
    {"global_attn_every_n_layers", modulo},
    {"window_pattern", modulo},
    {"attn_layer_period", modulo},
    {"expert_layer_period", modulo},
    {"interleave_moe_layer_step", modulo},
    {"decoder_sparse_step", modulo},
    {"moe_layer_interval", modulo},
    {"moe_layer_freq", modulo},
    {"moe_every_n_layers", modulo},
    {"cross_attn_every_n_layers", modulo},
    {"num_dense_layers", below},
    {"first_k_dense_replace", below},
    {"moe_layer_start_index", below},
    {"max_window_layers", below},
};

// The keys that a list takes the place of.
struct Replaced {
  std::string_view list, keys;  // between blanks
};
constexpr Replaced kReplaced[] = {
    {"layer_types",
     " sliding_window_pattern full_attention_interval global_attn_every_n_layers window_pattern "
     "max_window_layers "},
    {"no_rope_layers", " no_rope_layer_interval "},
    {"mlp_layer_types", " first_k_dense_replace num_dense_layers moe_layer_freq "},
    {"layers_block_type", " attn_layer_period "},
    {"mlp_only_layers", " decoder_sparse_step "},
    {"moe_layers", " interleave_moe_layer_step "},
};

// Whether a number says nothing in this file: `done` are the lists that the stack has, and without
// windows it does not matter which layers would have one. (Qwen 3's mixtures have one everywhere.)
bool is_idle(const Json& text, std::string_view key, const std::vector<std::string>& done) {
  if (key == "max_window_layers" && (!uses_window(text) || type_of(text) == "qwen3_moe"))
    return true;
  const std::string between = " " + std::string(key) + " ";
  return std::ranges::any_of(kReplaced, [&](const Replaced& r) {
    return r.keys.find(between) != std::string_view::npos &&
           std::ranges::find(done, r.list) != done.end();
  });
}

Error lost_kind(std::string_view key, const Json& text, const LayerOrigin& origin, size_t place) {
  return usage_error(
      "slices: config.json's {} makes the kinds of layers by their numbers, and layer {} of {} "
      "would become another kind as layer {} of the result: transformers has no list for it in "
      "model_type '{}'; take layers that stay at a place of their own kind",
      key, origin.layer, origin.model, place, type_of(text));
}

// Refuses numbers that would give a layer another kind. `done`: the lists that the stack has.
void check_number_rules(std::span<const LayerOrigin> layers, const std::vector<std::string>& done,
                        const Json& text) {
  for (const NumberRule& rule : kNumberRules) {
    if (is_idle(text, rule.key, done)) continue;
    const auto value = integer(text, rule.key);
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto own = integer(*layers[i].text, rule.key);
      if (!value && !own) continue;
      if (!value || !own ||
          rule.kind(*own, layers[i].layer) != rule.kind(*value, static_cast<int64_t>(i)))
        throw lost_kind(rule.key, text, layers[i], i);
    }
  }
}

// first_k_dense_replace and the like: the first k layers of the stack, if the others follow them.
void stack_dense_layers(std::span<const LayerOrigin> layers, Json& text) {
  for (const char* key : {"first_k_dense_replace", "num_dense_layers"}) {
    if (!integer(text, key)) continue;
    int64_t dense = 0;
    bool first = true;
    for (const LayerOrigin& origin : layers) {
      const bool is_dense = origin.layer < integer(*origin.text, key).value_or(0);
      if (is_dense && !first) return;  // check_number_rules says so
      first = first && is_dense;
      dense += is_dense;
    }
    text[key] = dense;
  }
}

// mlp_only_layers and decoder_sparse_step of Qwen's mixtures: one list of the dense layers.
bool is_dense_by_step(const Json& text, int64_t layer) {
  const auto only = text.find("mlp_only_layers");
  const bool named = only != text.end() && only->is_array() &&
                     std::ranges::find(*only, Json(layer)) != only->end();
  const int64_t step = integer(text, "decoder_sparse_step").value_or(1);
  return named || (step > 0 && (layer + 1) % step != 0);
}

void stack_indices(std::span<const LayerOrigin> layers, std::string_view key,
                   bool (*is_in)(const Json& text, std::string_view key, int64_t layer),
                   Json& text) {
  Json indices = Json::array();
  for (size_t i = 0; i < layers.size(); ++i) {
    if (is_in(*layers[i].text, key, layers[i].layer)) indices.push_back(i);
  }
  text[std::string(key)] = indices;
}

bool is_in_list(const Json& text, std::string_view key, int64_t layer) {
  const auto list = text.find(key);
  return list != text.end() && list->is_array() &&
         std::ranges::find(*list, Json(layer)) != list->end();
}

void stack_index_lists(std::span<const LayerOrigin> layers, std::vector<std::string>& done,
                       Json& text) {
  const bool steps = std::ranges::any_of(layers, [](const LayerOrigin& o) {
    return integer(*o.text, "decoder_sparse_step").has_value();
  });
  for (const std::string_view key : kIndices) {
    if (key == "mlp_only_layers" && steps) continue;
    if (text.contains(key) && text[std::string(key)].is_array())
      stack_indices(layers, key, is_in_list, text);
  }
  if (!steps) return;
  stack_indices(
      layers, "mlp_only_layers",
      [](const Json& own, std::string_view, int64_t layer) { return is_dense_by_step(own, layer); },
      text);
  text["decoder_sparse_step"] = 1;
  done.emplace_back("mlp_only_layers");
}

// llama4: which layers have experts follows from a step.
void stack_moe_step(std::span<const LayerOrigin> layers, std::vector<std::string>& done,
                    Json& text) {
  const bool llama4 = type_of(text).starts_with("llama4");
  if (!llama4 || text.contains("moe_layers")) {
    if (text.contains("moe_layers")) done.emplace_back("moe_layers");
    return;
  }
  stack_indices(
      layers, "moe_layers",
      [](const Json& own, std::string_view key, int64_t layer) {
        if (own.contains(key)) return is_in_list(own, key, layer);
        return is_nth(own, "interleave_moe_layer_step", 1, layer);
      },
      text);
  done.emplace_back("moe_layers");
}

// Writes the list, unless all layers are alike and the rule says so by itself. A list that was not
// believed, since it had another length than the model, may have the length of the stack.
void stack_list(std::span<const LayerOrigin> layers, std::string_view key, Json& text) {
  const bool letters = text.contains(key) && text[std::string(key)].is_string();
  const Rule* rule = lists_layers(text, key) ? nullptr : find_rule(text, key);
  const auto stale = text.find(key);
  bool needed =
      !rule || (stale != text.end() && stale->is_array() && stale->size() == layers.size());
  Json list = Json::array();
  std::string joined;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Json kind = layer_kind(*layers[i].text, key, layers[i].layer);
    if (kind.is_null()) {
      throw usage_error("slices: config.json's {} lists the layers, but that of {} has none for {}",
                        key, layers[i].model, layers[i].layer);
    }
    if (letters) joined += kind.get<std::string>();
    list.push_back(kind);
    needed = needed || kind != list[0] || kind != rule->kind(text, static_cast<int64_t>(i));
  }
  if (!needed) return;
  text[std::string(key)] = letters ? Json(joined) : list;
}

void stack_attention_types(std::span<const LayerOrigin> layers, Json& text) {
  // GPT-Neo: [[["global", "local"], 12]], a pattern and how often it is repeated.
  if (!text.contains("attention_types")) return;
  Json kinds = Json::array();
  for (const LayerOrigin& origin : layers) {
    std::vector<Json> all;
    for (const Json& part : origin.text->value("attention_types", Json::array())) {
      for (int64_t n = 0; n < part.at(1).get<int64_t>(); ++n) {
        for (const Json& kind : part.at(0)) all.push_back(kind);
      }
    }
    kinds.push_back(all.at(static_cast<size_t>(origin.layer)));
  }
  text["attention_types"] = Json::array({Json::array({kinds, 1})});
}

// Gemma 4's settings of single layers, under the numbers of the result's.
void stack_layer_settings(std::span<const LayerOrigin> layers, Json& text) {
  constexpr std::string_view kKey = "per_layer_config";
  const auto has = [&](const LayerOrigin& o) { return o.text->contains(kKey); };
  if (std::ranges::none_of(layers, has)) return;
  if (!std::ranges::all_of(layers, has)) {
    throw usage_error(
        "slices: config.json's per_layer_config has settings of single layers, but not in all "
        "models of the slices: save them with the same version of transformers");
  }
  Json settings = Json::object();
  for (size_t i = 0; i < layers.size(); ++i) {
    for (const auto& [number, own] : layers[i].text->at(std::string(kKey)).items()) {
      int64_t layer = -1;
      std::from_chars(number.data(), number.data() + number.size(), layer);
      if (layer == layers[i].layer) settings[fmt::format("{:04}", i)] = own;
    }
  }
  text[std::string(kKey)] = settings;
}

// Gemma 4: transformers makes the last layer see everything, whatever config.json says.
void check_last_layer(std::span<const LayerOrigin> layers, const Json& text) {
  const LayerOrigin& last = layers.back();
  if (!type_of(text).starts_with("gemma4")) return;
  if (layer_kind(*last.text, "layer_types", last.layer) == "full_attention") return;
  throw usage_error(
      "slices: the last layer of a model of type '{}' is full_attention in transformers, and "
      "layer {} of {} is not: let the slices end with a layer that is",
      type_of(text), last.layer, last.model);
}

// Tensors that hold the rows of all layers one after the other cannot be cut here.
void check_shared_tensors(const Json& text) {
  if (integer(text, "num_kv_shared_layers").value_or(0) > 0 ||
      type_of(text).starts_with("gemma3n")) {
    throw usage_error(
        "slices: layers of a model of type '{}' cannot be stacked: its last layers use the keys "
        "and values of earlier ones (num_kv_shared_layers)",
        type_of(text));
  }
  const bool assumed = type_of(text).starts_with("gemma4");  // 256 wide
  if (integer(text, "hidden_size_per_layer_input").value_or(assumed ? 256 : 0) > 0) {
    throw usage_error(
        "slices: layers of a model of type '{}' cannot be stacked: one tensor holds the embeddings "
        "of all its layers (hidden_size_per_layer_input)",
        type_of(text));
  }
}

// Returns whether every layer is at its own place, and each of a model that is described alike.
bool is_as_it_was(std::span<const LayerOrigin> layers, const Json& text) {
  if (integer(text, "num_hidden_layers") != static_cast<int64_t>(layers.size())) return false;
  const Json* last = nullptr;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].layer != static_cast<int64_t>(i)) return false;
    if (layers[i].text != last && *layers[i].text != text) return false;
    last = layers[i].text;
  }
  return true;
}

}  // namespace

const Json& text_part(const Json& config) {
  const auto text = config.find("text_config");
  return text != config.end() && text->is_object() ? *text : config;
}

Json& text_part(Json& config) {
  return const_cast<Json&>(text_part(static_cast<const Json&>(config)));
}

Json layer_kind(const Json& text, std::string_view key, int64_t layer) {
  if (Json kind = listed(text, key, layer); !kind.is_null()) return kind;
  const Rule* rule = find_rule(text, key);
  return rule ? rule->kind(text, layer) : Json();
}

void check_layer_lists(const Json& config, std::string_view file) {
  if (!config.is_object()) return;
  const Json& text = text_part(config);
  const auto layers = integer(text, "num_hidden_layers");
  // Nemotron-H goes by another list, which says how many layers there are.
  if (!layers || type_of(text) == "nemotron_h") return;
  for (const std::string_view key : {"layer_types", "mlp_layer_types"}) {
    const auto list = text.find(key);
    if (list == text.end() || !list->is_array()) continue;
    const auto found = static_cast<int64_t>(list->size());
    if (found == *layers || found == *layers + promised_mtp_layers(config)) continue;
    throw input_error("{}: key '{}' is a list of {}, expected one entry for each of {} layers",
                      file, key, found, *layers);
  }
}

void stack_layer_kinds(std::span<const LayerOrigin> layers, Json& text) {
  if (!text.is_object())
    throw input_error("config.json: expected an object, found {}", text.type_name());
  const Json original = text;  // the rules of `text` itself are read while it changes
  std::vector<LayerOrigin> origins(layers.begin(), layers.end());
  for (LayerOrigin& o : origins) {
    if (o.text == &text) o.text = &original;
  }
  if (is_as_it_was(origins, original)) return;
  check_shared_tensors(original);
  check_last_layer(origins, original);
  std::vector<std::string> done;
  for (const std::string_view key : kLists) {
    const Rule* rule = find_rule(original, key);
    const auto has = [&](const LayerOrigin& o) { return lists_layers(*o.text, key); };
    if (!rule && !lists_layers(original, key) && std::ranges::none_of(origins, has)) continue;
    stack_list(origins, key, text);
    done.emplace_back(key);
  }
  stack_index_lists(origins, done, text);
  stack_moe_step(origins, done, text);
  stack_attention_types(origins, text);
  stack_layer_settings(origins, text);
  stack_dense_layers(origins, text);
  check_number_rules(origins, done, text);
  text["num_hidden_layers"] = origins.size();
}

}  // namespace lewis
