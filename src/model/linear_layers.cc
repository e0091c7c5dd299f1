// Names and shapes of the tensors of a block.
#include <array>

#include "base/error.h"
#include "io/tensor_source.h"
#include "model/model_spec.h"

namespace lewis {
namespace {

// One part of a linear layer that may be fused with others.
struct Part {
  std::string_view name;
  int64_t rows;
  LinearRole role;
};

class LayerNames {
 public:
  LayerNames(const ModelSpec& spec, int64_t layer)
      : spec_(spec), prefix_(fmt::format("{}layers.{}.", spec.prefix, layer)) {}

  std::vector<LinearLayer> list(bool routed) {
    add_attention();
    if (!routed) {
      add_mlp("mlp.", spec_.mlp, spec_.intermediate, kDense);
    } else {
      add_experts();
    }
    return std::move(layers_);
  }

 private:
  void add(const std::string& place, const Part& part, int64_t in, bool bias,
           int64_t expert = kDense) {
    const std::string name = prefix_ + place + std::string(part.name);
    layers_.push_back({name,
                       name,
                       name + ".weight",
                       {part.rows, in},
                       0,
                       part.rows,
                       in,
                       bias ? name + ".bias" : "",
                       part.role,
                       expert});
  }

  // One tensor `fused` that holds the rows of all parts, one after the other.
  void add_fused(const std::string& place, std::string_view fused, std::span<const Part> parts,
                 int64_t in, bool bias, int64_t expert = kDense) {
    const std::string module = prefix_ + place + std::string(fused);
    int64_t all = 0, first = 0;
    for (const Part& part : parts) all += part.rows;
    for (const Part& part : parts) {
      layers_.push_back({prefix_ + place + std::string(part.name),
                         module,
                         module + ".weight",
                         {all, in},
                         first,
                         part.rows,
                         in,
                         bias ? module + ".bias" : "",
                         part.role,
                         expert});
      first += part.rows;
    }
  }

  void add_attention() {
    const int64_t q = spec_.heads * spec_.head_dim, kv = spec_.kv_heads * spec_.head_dim;
    const std::array<Part, 3> parts = {{{"q_proj", q, LinearRole::kQuery},
                                        {"k_proj", kv, LinearRole::kKey},
                                        {"v_proj", kv, LinearRole::kValue}}};
    if (spec_.fused_qkv) {
      add_fused("self_attn.", "qkv_proj", parts, spec_.hidden, spec_.qkv_bias);
    } else {
      for (const Part& part : parts) add("self_attn.", part, spec_.hidden, spec_.qkv_bias);
    }
    add("self_attn.", {"o_proj", spec_.hidden, LinearRole::kOutput}, q, spec_.o_bias);
  }

  void add_mlp(const std::string& place, const MlpNames& names, int64_t width, int64_t expert) {
    const Part gate = {names.gate, width, LinearRole::kGate};
    const Part up = {names.up, width, LinearRole::kUp};
    if (spec_.fused_gate_up) {
      add_fused(place, "gate_up_proj", std::array{gate, up}, spec_.hidden, spec_.mlp_bias, expert);
    } else {
      if (!names.gate.empty()) add(place, gate, spec_.hidden, spec_.mlp_bias, expert);
      add(place, up, spec_.hidden, spec_.mlp_bias, expert);
    }
    add(place, {names.down, spec_.hidden, LinearRole::kDown}, width, spec_.mlp_bias, expert);
  }

  void add_experts() {
    const ExpertsSpec& e = spec_.experts;
    const std::string place = e.module + ".";
    add(place, {"gate", e.count, LinearRole::kRouter}, spec_.hidden, false);
    if (e.shared_intermediate) {
      add_mlp(place + "shared_expert.", spec_.mlp, e.shared_intermediate, kShared);
      add(place, {"shared_expert_gate", 1, LinearRole::kSharedSwitch}, spec_.hidden, false);
    }
    for (int64_t i = 0; i < e.count; ++i) add_expert(place + "experts.", i);
  }

  void add_expert(const std::string& place, int64_t i) {
    const ExpertsSpec& e = spec_.experts;
    const size_t first = layers_.size();
    add_mlp(fmt::format("{}{}.", place, i), e.names, e.intermediate, i);
    for (size_t n = first; n < layers_.size(); ++n) {
      LinearLayer& layer = layers_[n];
      layer.module = prefix_ + place.substr(0, place.size() - 1);
      if (!e.fused) continue;
      const bool down = layer.role == LinearRole::kDown;
      layer.tensor = prefix_ + place + (down ? "down_proj" : "gate_up_proj");
      const int64_t rows = down ? layer.out : 2 * layer.out;  // of one expert
      layer.shape = {e.count, rows, layer.in};
      layer.first_row = i * rows + (layer.role == LinearRole::kUp ? layer.out : 0);
    }
  }

  const ModelSpec& spec_;
  std::string prefix_;
  std::vector<LinearLayer> layers_;
};

}  // namespace

std::vector<LinearLayer> linear_layers(const ModelSpec& spec, int64_t layer) {
  return LayerNames(spec, layer).list(spec.layer.at(static_cast<size_t>(layer)).routed);
}

std::vector<std::string> linear_names(const ModelSpec& spec, int64_t layer) {
  std::vector<std::string> names;
  for (LinearLayer& linear : linear_layers(spec, layer)) names.push_back(std::move(linear.name));
  return names;
}

ModelSpec locate_tensors(ModelSpec spec, const TensorSource& source) {
  struct Place {
    std::string_view prefix, head;
  };
  // Alone; multimodal models as transformers 4 and 5 store them.
  static constexpr Place kPlaces[] = {{"model.", "lm_head."},
                                      {"language_model.model.", "language_model.lm_head."},
                                      {"model.language_model.", "lm_head."}};
  for (const Place& place : kPlaces) {
    if (!source.find(fmt::format("{}embed_tokens.weight", place.prefix))) continue;
    spec.prefix = place.prefix;
    spec.head = place.head;
    break;
  }
  for (int64_t i = 0; i < spec.layers; ++i) {
    if (!spec.layer[static_cast<size_t>(i)].routed) continue;
    const std::string experts = fmt::format("{}layers.{}.mlp.experts.", spec.prefix, i);
    if (source.find(experts + "gate_up_proj")) {
      spec.experts.fused = true;
      spec.experts.module = "mlp";
      spec.experts.names = {"gate_proj", "up_proj", "down_proj"};
    }
    break;
  }
  return spec;
}

}  // namespace lewis
