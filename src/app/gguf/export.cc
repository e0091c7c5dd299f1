#include "app/gguf/export.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>

#include "base/error.h"
#include "base/json.h"

namespace lewis {
namespace {

struct Architecture {
  std::string_view model_type, gguf;
  bool neighbours = false;  // rotary pairs are neighbours in llama.cpp
};
constexpr std::array<Architecture, 4> kArchitectures = {
    {{"llama", "llama", true}, {"mistral", "llama", true}, {"qwen2", "qwen2"}, {"qwen3", "qwen3"}}};

struct NamePair {
  std::string_view name, gguf;
};
constexpr std::array<NamePair, 3> kOutside = {
    {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}}};
constexpr std::array<NamePair, 11> kInBlock = {{{"input_layernorm", "attn_norm"},
                                                {"self_attn.q_proj", "attn_q"},
                                                {"self_attn.k_proj", "attn_k"},
                                                {"self_attn.v_proj", "attn_v"},
                                                {"self_attn.o_proj", "attn_output"},
                                                {"self_attn.q_norm", "attn_q_norm"},
                                                {"self_attn.k_norm", "attn_k_norm"},
                                                {"post_attention_layernorm", "ffn_norm"},
                                                {"mlp.gate_proj", "ffn_gate"},
                                                {"mlp.up_proj", "ffn_up"},
                                                {"mlp.down_proj", "ffn_down"}}};

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
          "{}: model_type '{}' is not written as GGUF yet, only llama, mistral, qwen2 "
          "and qwen3 are",
          file, model_type);
    }
    architecture_ = *found;
  }

  GgufExport run() {
    e_.metadata["general.architecture"] = std::string(architecture_.gguf);
    add_sizes();
    add_rope();
    note_windows();
    for (const TensorInfo& t : model_.tensors()) add(t);
    return std::move(e_);
  }

 private:
  void set(std::string_view key, GgufValue value) {
    e_.metadata[fmt::format("{}.{}", architecture_.gguf, key)] = std::move(value);
  }

  bool has(const char* key) const { return config_.contains(key) && !config_[key].is_null(); }
  uint32_t count(const char* key) const {
    const auto found = config_.find(key);
    if (found == config_.end() || !found->is_number_unsigned() || *found > UINT32_MAX)
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

  // "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight".
  std::optional<std::string> name_of(std::string_view name) const {
    const size_t dot = name.rfind('.');
    if (dot == name.npos) return std::nullopt;
    const std::string_view module = name.substr(0, dot), ending = name.substr(dot);
    if (ending != ".weight" && ending != ".bias") return std::nullopt;
    if (const auto outside = find(kOutside, module))
      return std::string(*outside) + std::string(ending);
    constexpr std::string_view kLayers = "model.layers.";
    if (!module.starts_with(kLayers)) return std::nullopt;
    std::string_view rest = module.substr(kLayers.size());
    const size_t end = rest.find('.');
    if (end == rest.npos) return std::nullopt;
    const auto inside = find(kInBlock, rest.substr(end + 1));
    if (!inside) return std::nullopt;
    return fmt::format("blk.{}.{}{}", rest.substr(0, end), *inside, ending);
  }

  void add(const TensorInfo& t) {
    const auto name = name_of(t.name);
    if (!name) {
      throw input_error("{}: tensor {} has no place in a GGUF file of the architecture {}",
                        model_.label(), t.name, architecture_.gguf);
    }
    ExportedTensor out{{*name, type_of(t), t.shape}, t.name};
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
