#include "app/gguf/export.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <numbers>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "calibrate/imatrix.h"

namespace lewis {
namespace {

struct Architecture {
  std::string_view model_type, gguf;
  bool neighbours = false;  // rotary pairs are neighbours in llama.cpp
  bool mixture = false;     // of routed experts, in every layer
  // Whether llama.cpp makes the weights of the chosen experts add up to one.
  bool normalizes = false;
};
constexpr std::array<Architecture, 7> kArchitectures = {
    {{"llama", "llama", true},
     {"mistral", "llama", true},
     {"mixtral", "llama", true, true, true},
     {"qwen2", "qwen2"},
     {"qwen2_moe", "qwen2moe", false, true, false},
     {"qwen3", "qwen3"},
     {"qwen3_moe", "qwen3moe", false, true, true}}};

struct NamePair {
  std::string_view name, gguf;
};
constexpr std::array<NamePair, 3> kOutside = {
    {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}}};
// Of a block, besides the linear layers that ggml_name_of knows.
constexpr std::array<NamePair, 6> kInBlock = {{{"input_layernorm", "attn_norm"},
                                               {"self_attn.q_norm", "attn_q_norm"},
                                               {"self_attn.k_norm", "attn_k_norm"},
                                               {"post_attention_layernorm", "ffn_norm"},
                                               {"mlp.gate", "ffn_gate_inp"},
                                               {"block_sparse_moe.gate", "ffn_gate_inp"}}};
// Of one routed expert, behind its number.
constexpr std::array<NamePair, 6> kOfExpert = {{{"gate_proj", "ffn_gate_exps"},
                                                {"up_proj", "ffn_up_exps"},
                                                {"down_proj", "ffn_down_exps"},
                                                {"w1", "ffn_gate_exps"},
                                                {"w3", "ffn_up_exps"},
                                                {"w2", "ffn_down_exps"}}};
constexpr std::array<std::string_view, 2> kExperts = {"mlp.experts.", "block_sparse_moe.experts."};

std::optional<std::string_view> find(std::span<const NamePair> pairs, std::string_view name) {
  const auto found = std::ranges::find(pairs, name, &NamePair::name);
  if (found == pairs.end()) return std::nullopt;
  return found->gguf;
}

class Exporter {
 public:
  Exporter(const TensorSource& model, const Json& config, const std::string& file, GgufType type)
      : model_(model), config_(config), file_(file), type_(type) {
    const std::string model_type = config.value("model_type", "");
    const auto found = std::ranges::find(kArchitectures, model_type, &Architecture::model_type);
    if (found == kArchitectures.end()) {
      throw input_error(
          "{}: model_type '{}' is not written as GGUF yet, only llama, mistral, mixtral, qwen2, "
          "qwen2_moe, qwen3 and qwen3_moe are",
          file, model_type);
    }
    architecture_ = *found;
  }

  GgufExport run() {
    e_.metadata["general.architecture"] = std::string(architecture_.gguf);
    add_sizes();
    if (architecture_.mixture) add_expert_sizes();
    add_rope();
    note_windows();
    for (const TensorInfo& t : model_.tensors()) add(t);
    for (const auto& [name, tensors] : experts_) add_experts(name, tensors);
    return std::move(e_);
  }

 private:
  void set(std::string_view key, GgufValue value) {
    e_.metadata[fmt::format("{}.{}", architecture_.gguf, key)] = std::move(value);
  }

  bool has(const char* key) const { return config_.contains(key) && !config_[key].is_null(); }
  uint32_t count(const char* key) const {
    const auto found = config_.find(key);
    if (found == config_.end() || !found->is_number_integer() || *found < 0 || *found > UINT32_MAX)
      throw input_error("{}: {} is no whole number", file_, key);
    return found->get<uint32_t>();
  }
  float number(const Json& json, const char* key) const {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number())
      throw input_error("{}: {} is no number", file_, key);
    return found->get<float>();
  }

  uint32_t heads() const { return count("num_attention_heads"); }
  // What a config.json leaves out counts as in transformers: Llama has as many key heads as query
  // heads, and only Qwen 3 has heads of another size than hidden_size / heads.
  uint32_t kv_heads() const {
    if (!has("num_key_value_heads") && architecture_.model_type == "llama") return heads();
    return count("num_key_value_heads");
  }
  uint32_t head_dim() const {
    if (has("head_dim") || architecture_.model_type == "qwen3") return count("head_dim");
    return count("hidden_size") / heads();
  }

  void add_sizes() {
    set("block_count", count("num_hidden_layers"));
    set("context_length", count("max_position_embeddings"));
    set("embedding_length", count("hidden_size"));
    set("feed_forward_length", count("intermediate_size"));
    set("attention.head_count", heads());
    set("attention.head_count_kv", kv_heads());
    set("attention.layer_norm_rms_epsilon",
        has("rms_norm_eps") ? number(config_, "rms_norm_eps") : 1e-6f);
    if (has("head_dim")) {
      set("attention.key_length", head_dim());
      set("attention.value_length", head_dim());
    }
    if (architecture_.gguf != "llama") return;
    set("vocab_size", count("vocab_size"));
    set("rope.dimension_count", head_dim());
  }

  // transformers 5 writes both names for one setting.
  uint32_t expert_count() const {
    return count(has("num_local_experts") ? "num_local_experts" : "num_experts");
  }

  void add_expert_sizes() {
    const std::string model_type(architecture_.model_type);
    set("expert_count", expert_count());
    set("expert_used_count", count("num_experts_per_tok"));
    if (model_type == "mixtral") return;
    set("expert_feed_forward_length", count("moe_intermediate_size"));
    if (model_type == "qwen2_moe")
      set("expert_shared_feed_forward_length", count("shared_expert_intermediate_size"));
    const bool normalizes = has("norm_topk_prob") && config_["norm_topk_prob"] == true;
    if (normalizes == architecture_.normalizes) return;
    throw input_error("{}: norm_topk_prob is {}, llama.cpp runs {} with {} only", file_, normalizes,
                      model_type, architecture_.normalizes);
  }

  // transformers 5 writes rope_parameters, with rope_theta among them; before, rope_scaling.
  void add_rope() {
    const Json rope = has("rope_parameters") ? config_["rope_parameters"]
                      : has("rope_scaling")  ? config_["rope_scaling"]
                                             : Json::object();
    const float theta = rope.contains("rope_theta") ? number(rope, "rope_theta")
                        : has("rope_theta")         ? number(config_, "rope_theta")
                                                    : 10000.0f;
    set("rope.freq_base", theta);
    std::string type = "default";
    for (const char* key : {"type", "rope_type"}) {
      if (rope.contains(key) && rope[key].is_string()) type = rope[key].get<std::string>();
    }
    if (type == "default") return;
    if (type == "llama3") return add_llama3(rope, theta);
    if (type != "linear" && type != "yarn")
      throw input_error("{}: rope of type '{}' is not written as GGUF", file_, type);
    set("rope.scaling.type", type);
    set("rope.scaling.factor", number(rope, "factor"));
    if (type == "yarn")
      set("rope.scaling.original_context_length",
          static_cast<uint32_t>(number(rope, "original_max_position_embeddings")));
  }

  // What each frequency is divided by (Llama 3.1): nothing at short wavelengths, the factor at long
  // ones, and a mean in between.
  void add_llama3(const Json& rope, float theta) {
    const double factor = number(rope, "factor"), low = number(rope, "low_freq_factor"),
                 high = number(rope, "high_freq_factor"),
                 context = number(rope, "original_max_position_embeddings");
    const auto dimensions = static_cast<int64_t>(head_dim());
    for (int64_t i = 0; i < dimensions; i += 2) {
      const double frequency =
          1 / std::pow(static_cast<double>(theta),
                       static_cast<double>(i) / static_cast<double>(dimensions));
      const double length = 2 * std::numbers::pi / frequency;
      double divisor = 1;
      if (length > context / low) {
        divisor = factor;
      } else if (length >= context / high) {
        const double smooth = (context / length - low) / (high - low);
        divisor = 1 / ((1 - smooth) / factor + smooth);
      }
      e_.rope_factors.push_back(static_cast<float>(divisor));
    }
  }

  void note_windows() {
    const bool windows = has("use_sliding_window") ? config_["use_sliding_window"] == true
                                                   : architecture_.model_type == "mistral";
    if (windows && has("sliding_window")) {
      e_.notes.push_back(
          fmt::format("{}: sliding_window {}: llama.cpp lets this architecture see all of a text",
                      file_, config_["sliding_window"].dump()));
    }
  }

  // "model.layers.3.self_attn.q_proj" -> "3" and "self_attn.q_proj".
  struct Place {
    std::string_view layer, module;
  };
  static std::optional<Place> place_of(std::string_view module) {
    constexpr std::string_view kLayers = "model.layers.";
    if (!module.starts_with(kLayers)) return std::nullopt;
    module.remove_prefix(kLayers.size());
    const size_t end = module.find('.');
    if (end == module.npos) return std::nullopt;
    return Place{module.substr(0, end), module.substr(end + 1)};
  }

  // "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight".
  static std::optional<std::string> name_of(std::string_view name) {
    const size_t dot = name.rfind('.');
    if (dot == name.npos) return std::nullopt;
    const std::string_view module = name.substr(0, dot), ending = name.substr(dot);
    if (ending != ".weight" && ending != ".bias") return std::nullopt;
    if (const auto outside = find(kOutside, module))
      return std::string(*outside) + std::string(ending);
    const auto place = place_of(module);
    if (!place) return std::nullopt;
    std::optional<std::string_view> inside = find(kInBlock, place->module);
    if (const GgmlName* linear = inside ? nullptr : ggml_name_of(place->module))
      inside = linear->ggml;
    if (!inside) return std::nullopt;
    return fmt::format("blk.{}.{}{}", place->layer, *inside, ending);
  }

  // "model.layers.3.mlp.experts.7.up_proj.weight" -> "blk.3.ffn_up_exps.weight" and 7.
  static std::optional<std::pair<std::string, int64_t>> expert_of(std::string_view name) {
    constexpr std::string_view kWeight = ".weight";
    if (!name.ends_with(kWeight)) return std::nullopt;
    const auto place = place_of(name.substr(0, name.size() - kWeight.size()));
    if (!place) return std::nullopt;
    const auto prefix = std::ranges::find_if(
        kExperts, [&](std::string_view experts) { return place->module.starts_with(experts); });
    if (prefix == kExperts.end()) return std::nullopt;
    const std::string_view rest = place->module.substr(prefix->size());
    int64_t expert = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), expert);
    const auto digits = static_cast<size_t>(end - rest.data());
    if (error != std::errc() || digits >= rest.size() || *end != '.') return std::nullopt;
    const auto projection = find(kOfExpert, rest.substr(digits + 1));
    if (!projection) return std::nullopt;
    return std::pair(fmt::format("blk.{}.{}{}", place->layer, *projection, kWeight), expert);
  }

  // One tensor of all experts of a layer, in the order of their numbers.
  void add_experts(const std::string& name, const std::map<int64_t, const TensorInfo*>& tensors) {
    const auto experts = static_cast<int64_t>(expert_count());
    const TensorInfo& first = *tensors.begin()->second;
    if (static_cast<int64_t>(tensors.size()) != experts || tensors.rbegin()->first != experts - 1) {
      throw input_error("{}: {} routed experts like {}, expected {} (config.json)", model_.label(),
                        tensors.size(), first.name, experts);
    }
    ExportedTensor out{{name, type_of(first), {experts, first.shape.at(0), first.shape.at(1)}}, {}};
    for (const auto& [_, t] : tensors) {
      if (t->shape != first.shape) {
        throw input_error("{}: tensor {} is {}, {} is {}: experts of one shape are expected",
                          model_.label(), t->name, to_string(t->shape), first.name,
                          to_string(first.shape));
      }
      out.sources.push_back(t->name);
    }
    e_.tensors.push_back(std::move(out));
  }

  // llama.cpp wants experts in every layer of a mixture.
  bool is_dense_in_mixture(const std::string& name) const {
    return architecture_.mixture &&
           (name.ends_with(".mlp.gate_proj.weight") || name.ends_with(".mlp.up_proj.weight") ||
            name.ends_with(".mlp.down_proj.weight"));
  }

  void add(const TensorInfo& t) {
    if (const auto expert = architecture_.mixture ? expert_of(t.name) : std::nullopt) {
      experts_[expert->first][expert->second] = &t;
      return;
    }
    const auto name = name_of(t.name);
    if (!name || is_dense_in_mixture(t.name)) {
      throw input_error("{}: tensor {} has no place in a GGUF file of the architecture {}",
                        model_.label(), t.name, architecture_.gguf);
    }
    ExportedTensor out{{*name, type_of(t), t.shape}, {t.name}};
    if (name->ends_with(".ffn_gate_inp.weight")) out.tensor.type = GgufType::kF32;
    if (name->ends_with(".ffn_gate_inp_shexp.weight"))  // [1, inputs] in the model
      out.tensor = {*name, GgufType::kF32, {element_count(t.shape)}};
    if (architecture_.neighbours) {
      const bool is_q = name->find(".attn_q.") != name->npos;
      if (is_q || name->find(".attn_k.") != name->npos)
        out.rope_heads = is_q ? heads() : kv_heads();
      if (out.rope_heads > 0 && t.shape[0] % (2 * out.rope_heads) != 0)
        throw input_error("{}: tensor {} is {}, which are not {} heads of an even size",
                          model_.label(), t.name, to_string(t.shape), out.rope_heads);
    }
    e_.tensors.push_back(std::move(out));
  }

  GgufType type_of(const TensorInfo& t) {
    if (t.shape.size() < 2) return GgufType::kF32;
    if (type_ != GgufType::kQ8_0 || t.shape.back() % kQ8Block == 0) return type_;
    e_.notes.push_back(fmt::format("{}: rows of {} numbers fill no blocks of {}: written as F16",
                                   t.name, t.shape.back(), kQ8Block));
    return GgufType::kF16;
  }

  const TensorSource& model_;
  const Json& config_;
  const std::string& file_;
  GgufType type_;
  Architecture architecture_;
  std::map<std::string, std::map<int64_t, const TensorInfo*>> experts_;  // by name and number
  GgufExport e_;
};

}  // namespace

GgufExport export_model(const TensorSource& model, const Json& config, const std::string& file,
                        GgufType type) {
  return Exporter(model, config, file, type).run();
}

int64_t row_of_rope(int64_t row, int64_t rows, int64_t heads) {
  const int64_t size = rows / heads, head = row / size, within = row % size;
  return head * size + within % 2 * (size / 2) + within / 2;
}

}  // namespace lewis
