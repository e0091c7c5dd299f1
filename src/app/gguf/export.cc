#include "app/gguf/export.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "calibrate/imatrix.h"
#include "io/expert_tensors.h"
#include "io/layer_name.h"
#include "model/rope.h"

namespace lewis {
namespace {

constexpr std::array<GgufArchitecture, 7> kArchitectures = {
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
// The layers of routed experts, as split_expert_name calls them.
constexpr std::array<NamePair, 3> kOfExpert = {
    {{"gate_proj", "ffn_gate_exps"}, {"up_proj", "ffn_up_exps"}, {"down_proj", "ffn_down_exps"}}};
constexpr std::string_view kLayers = "model.layers.";

std::optional<std::string_view> find(std::span<const NamePair> pairs, std::string_view name) {
  const auto found = std::ranges::find(pairs, name, &NamePair::name);
  if (found == pairs.end()) return std::nullopt;
  return found->gguf;
}

}  // namespace

std::optional<std::string> gguf_name_of(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == name.npos) return std::nullopt;
  const std::string_view module = name.substr(0, dot), ending = name.substr(dot);
  if (ending != ".weight" && ending != ".bias") return std::nullopt;
  if (const auto outside = find(kOutside, module))
    return std::string(*outside) + std::string(ending);
  const LayerName place = split_layer(module);
  if (!place.layer || place.prefix != kLayers || place.rest.empty()) return std::nullopt;
  const std::string_view within = place.rest.substr(1);  // without its dot
  std::optional<std::string_view> inside = find(kInBlock, within);
  if (const GgmlName* linear = inside ? nullptr : ggml_name_of(within)) inside = linear->ggml;
  if (!inside) return std::nullopt;
  return fmt::format("blk.{}.{}{}", *place.layer, *inside, ending);
}

std::optional<std::pair<std::string, int64_t>> gguf_experts_of(std::string_view name) {
  const auto expert = split_expert_name(name);
  if (!expert || expert->bias) return std::nullopt;
  const LayerName place = split_layer(expert->place);
  if (!place.layer || place.prefix != kLayers) return std::nullopt;
  return std::pair(
      fmt::format("blk.{}.{}.weight", *place.layer, find(kOfExpert, expert->linear).value()),
      expert->expert);
}

namespace {

class Exporter {
 public:
  Exporter(const TensorSource& model, const ModelSpec& spec, const Json& config,
           const std::string& file)
      : model_(model), spec_(spec), config_(config), file_(file) {
    const auto found =
        std::ranges::find(kArchitectures, spec.model_type, &GgufArchitecture::model_type);
    if (found == kArchitectures.end()) {
      throw input_error(
          "{}: model_type '{}' is not written as GGUF yet, only llama, mistral, mixtral, qwen2, "
          "qwen2_moe, qwen3 and qwen3_moe are",
          file, spec.model_type);
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

  void set_count(std::string_view key, int64_t value) { set(key, static_cast<uint32_t>(value)); }

  bool has(const char* key) const { return config_.contains(key) && !config_[key].is_null(); }
  float number(const Json& json, const char* key) const {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number())
      throw input_error("{}: {} is no number", file_, key);
    return found->get<float>();
  }

  void add_sizes() {
    set_count("block_count", spec_.layers);
    set_count("context_length", spec_.max_positions);
    set_count("embedding_length", spec_.hidden);
    set_count("feed_forward_length", spec_.intermediate);
    set_count("attention.head_count", spec_.heads);
    set_count("attention.head_count_kv", spec_.kv_heads);
    set("attention.layer_norm_rms_epsilon", spec_.norm.epsilon);
    if (has("head_dim") || spec_.head_dim * spec_.heads != spec_.hidden) {
      set_count("attention.key_length", spec_.head_dim);
      set_count("attention.value_length", spec_.head_dim);
    }
    if (architecture_.gguf != "llama") return;
    set_count("vocab_size", spec_.vocab);
    set_count("rope.dimension_count", spec_.head_dim);
  }

  void add_expert_sizes() {
    const ExpertsSpec& experts = spec_.experts;
    set_count("expert_count", experts.count);
    set_count("expert_used_count", experts.chosen);
    if (architecture_.gguf == "llama") return;
    set_count("expert_feed_forward_length", experts.intermediate);
    if (experts.shared_intermediate > 0)
      set_count("expert_shared_feed_forward_length", experts.shared_intermediate);
    if (experts.normalize == architecture_.normalizes) return;
    throw input_error("{}: norm_topk_prob is {}, llama.cpp runs {} with {} only", file_,
                      experts.normalize, spec_.model_type, architecture_.normalizes);
  }

  // transformers 5 writes rope_parameters; before, rope_scaling.
  void add_rope() {
    set("rope.freq_base", static_cast<float>(spec_.ropes.at(0).theta));
    const Json rope = has("rope_parameters") ? config_["rope_parameters"]
                      : has("rope_scaling")  ? config_["rope_scaling"]
                                             : Json::object();
    std::string type = "default";
    for (const char* key : {"type", "rope_type"}) {
      if (rope.contains(key) && rope[key].is_string()) type = rope[key].get<std::string>();
    }
    if (type == "default") return;
    if (type == "llama3") return add_divisors();
    if (type != "linear" && type != "yarn")
      throw input_error("{}: rope of type '{}' is not written as GGUF", file_, type);
    set("rope.scaling.type", type);
    set("rope.scaling.factor", number(rope, "factor"));
    if (type == "yarn")
      set("rope.scaling.original_context_length",
          static_cast<uint32_t>(number(rope, "original_max_position_embeddings")));
  }

  // llama.cpp divides the frequencies of theta by these.
  void add_divisors() {
    const RopeSpec& rope = spec_.ropes[0];
    e_.rope_factors = default_frequencies(rope.theta, spec_.head_dim);
    std::ranges::transform(e_.rope_factors, rope.inverse_frequency, e_.rope_factors.begin(),
                           std::divides());
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

  // One tensor of all experts of a layer, in the order of their numbers.
  void add_experts(const std::string& name, const std::map<int64_t, const TensorInfo*>& tensors) {
    const int64_t experts = spec_.experts.count;
    const TensorInfo& first = *tensors.begin()->second;
    if (static_cast<int64_t>(tensors.size()) != experts || tensors.rbegin()->first != experts - 1) {
      throw input_error("{}: {} routed experts like {}, expected {} (config.json)", model_.label(),
                        tensors.size(), first.name, experts);
    }
    ExportedTensor out{{name, GgufType::kF32, {experts, first.shape.at(0), first.shape.at(1)}}, {}};
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
    if (const auto expert = architecture_.mixture ? gguf_experts_of(t.name) : std::nullopt) {
      experts_[expert->first][expert->second] = &t;
      return;
    }
    const auto name = gguf_name_of(t.name);
    if (!name || is_dense_in_mixture(t.name)) {
      throw input_error("{}: tensor {} has no place in a GGUF file of the architecture {}",
                        model_.label(), t.name, architecture_.gguf);
    }
    ExportedTensor out{{*name, GgufType::kF32, t.shape}, {t.name}};
    if (name->ends_with(".ffn_gate_inp_shexp.weight"))  // [1, inputs] in the model
      out.tensor.shape = {element_count(t.shape)};
    out.stays_f32 = out.tensor.shape.size() < 2 || name->ends_with(".ffn_gate_inp.weight");
    if (architecture_.neighbours) {
      const bool is_q = name->find(".attn_q.") != name->npos;
      if (is_q || name->find(".attn_k.") != name->npos)
        out.rope_heads = is_q ? spec_.heads : spec_.kv_heads;
      if (out.rope_heads > 0 && t.shape[0] % (2 * out.rope_heads) != 0)
        throw input_error("{}: tensor {} is {}, which are not {} heads of an even size",
                          model_.label(), t.name, to_string(t.shape), out.rope_heads);
    }
    e_.tensors.push_back(std::move(out));
  }

  const TensorSource& model_;
  const ModelSpec& spec_;
  const Json& config_;
  const std::string& file_;
  GgufArchitecture architecture_;
  std::map<std::string, std::map<int64_t, const TensorInfo*>> experts_;  // by name and number
  GgufExport e_;
};

}  // namespace

std::span<const GgufArchitecture> gguf_architectures() { return kArchitectures; }

GgufExport export_model(const TensorSource& model, const ModelSpec& spec, const Json& config,
                        const std::string& file) {
  return Exporter(model, spec, config, file).run();
}

}  // namespace lewis
