#include "app/gguf/export.h"

#include <algorithm>
#include <map>

#include "app/gguf/families/architecture.h"
#include "app/gguf/families/key_writer.h"
#include "app/gguf/families/tensor_names.h"
#include "base/error.h"
#include "base/json.h"
#include "io/extra_parts.h"

namespace lewis {
namespace {

class Exporter {
 public:
  Exporter(const TensorSource& model, const ModelSpec& spec, const Json& config,
           const std::string& file)
      : model_(model),
        spec_(spec),
        config_(config),
        file_(file),
        architecture_(gguf_architecture(spec.model_type, file)) {}

  GgufExport run() {
    // Of a model that sees, too, the keys of its text.
    const auto text = config_.find("text_config");
    const bool inner = text != config_.end() && text->is_object();
    KeyWriter(architecture_, spec_, inner ? *text : config_, file_, e_).write();
    if (architecture_.tied && !spec_.tied_head) {
      throw input_error(
          "{}: tie_word_embeddings is false, llama.cpp runs {} without a head of its "
          "own only",
          file_, spec_.model_type);
    }
    for (const TensorInfo& t : model_.tensors()) add(t);
    for (const auto& [name, tensors] : experts_) add_experts(name, tensors);
    for (const auto& [words, count] : left_out_) {
      e_.notes.push_back(
          fmt::format("{}: {} tensors are not written: {}", model_.label(), count, words));
    }
    return std::move(e_);
  }

 private:
  // One tensor of all experts of a layer, in the order of their numbers.
  void add_experts(const std::string& name, const std::map<int64_t, const TensorInfo*>& tensors) {
    const int64_t experts = spec_.experts.count;
    const TensorInfo& first = *tensors.begin()->second;
    if (static_cast<int64_t>(tensors.size()) != experts || tensors.rbegin()->first != experts - 1) {
      throw input_error("{}: {} routed experts like {}, expected {} (config.json)", model_.label(),
                        tensors.size(), first.name, experts);
    }
    ExportedTensor out{{name, GgufType::kF32, first.shape}, {}};
    out.tensor.shape.insert(out.tensor.shape.begin(), experts);
    for (const auto& [_, t] : tensors) {
      if (t->shape != first.shape) {
        throw input_error("{}: tensor {} is {}, {} is {}: experts of one shape are expected",
                          model_.label(), t->name, to_string(t->shape), first.name,
                          to_string(first.shape));
      }
      out.sources.push_back(t->name);
    }
    out.stays_f32 = first.shape.size() < 2;  // biases
    e_.tensors.push_back(std::move(out));
  }

  // llama.cpp wants experts in every layer of a mixture.
  bool is_dense_in_mixture(const std::string& name) const {
    return architecture_.mixture &&
           (name.ends_with(".mlp.gate_proj.weight") || name.ends_with(".mlp.up_proj.weight") ||
            name.ends_with(".mlp.down_proj.weight"));
  }

  // Parts that the text does not need, and the copy of the embeddings that is the head of a family
  // whose heads are always tied.
  bool is_left_out(const TensorInfo& t) {
    if (const auto part = extra_part(t.name, config_)) {
      ++left_out_[part->words];
      return true;
    }
    return architecture_.tied && t.name == spec_.head + "weight";
  }

  void add(const TensorInfo& t) {
    if (is_left_out(t)) return;
    if (const auto expert = architecture_.mixture ? gguf_experts_of(t.name, spec_) : std::nullopt) {
      experts_[expert->first][expert->second] = &t;
      return;
    }
    const auto name = gguf_name_of(t.name, spec_, architecture_);
    if (!name || is_dense_in_mixture(t.name)) {
      throw input_error("{}: tensor {} has no place in a GGUF file of the architecture {}",
                        model_.label(), t.name, architecture_.gguf);
    }
    ExportedTensor out{{*name, GgufType::kF32, t.shape}, {t.name}};
    if (is_convolution(*name))  // [channels, 1, positions] in the model
      out.tensor.shape = {t.shape.front(), t.shape.back()};
    out.stays_f32 = stays_f32(out.tensor);
    const bool own_norm = name->ends_with(".ssm_norm.weight");  // of a linear attention
    if (spec_.norm.plus_one && name->ends_with("norm.weight") && !own_norm) out.plus = 1;
    out.decay = name->ends_with(".ssm_a");
    if (e_.linear_heads.keys > 0) set_value_heads(t, out);
    if (architecture_.neighbours) set_rope_heads(t, out);
    e_.tensors.push_back(std::move(out));
  }

  static bool is_convolution(const std::string& name) {
    return name.ends_with(".shortconv.conv.weight") || name.ends_with(".ssm_conv1d.weight");
  }

  void set_value_heads(const TensorInfo& t, ExportedTensor& out) const {
    const ValueHeads values = e_.linear_heads;
    ValueHeads gates = values, behind_keys = values;
    gates.width = 1;
    behind_keys.first = 2 * values.keys * values.width;
    const auto is = [&](std::string_view ending) { return out.tensor.name.ends_with(ending); };
    if (is(".attn_qkv.weight") || is(".ssm_conv1d.weight")) out.rows = behind_keys;
    if (is(".attn_gate.weight")) out.rows = values;
    if (is(".ssm_alpha.weight") || is(".ssm_beta.weight")) out.rows = gates;
    if (is(".ssm_out.weight")) out.columns = values;
    if (is(".ssm_a") || is(".ssm_dt.bias")) out.columns = gates;
    const std::pair<ValueHeads, int64_t> moved[] = {{out.rows, t.shape.front()},
                                                    {out.columns, t.shape.back()}};
    for (const auto& [heads, found] : moved) {
      const int64_t expected = heads.first + heads.keys * heads.each * heads.width;
      if (heads.keys == 0 || found == expected) continue;
      throw input_error(
          "{}: tensor {} is {}, expected {} rows or numbers for the heads of its "
          "linear attention (config.json)",
          model_.label(), t.name, to_string(t.shape), expected);
    }
  }

  // Vectors, routers and short convolutions are F32, whatever the others are.
  static bool stays_f32(const GgufTensor& t) {
    return t.shape.size() < 2 || t.name.ends_with(".ffn_gate_inp.weight") ||
           t.name.ends_with(".ffn_gate_inp_shexp.weight") || is_convolution(t.name);
  }

  void set_rope_heads(const TensorInfo& t, ExportedTensor& out) const {
    const bool is_q = out.tensor.name.find(".attn_q.") != std::string::npos;
    if (!is_q && out.tensor.name.find(".attn_k.") == std::string::npos) return;
    out.rope_heads = is_q ? spec_.heads : spec_.kv_heads;
    if (t.shape[0] % (2 * out.rope_heads) != 0)
      throw input_error("{}: tensor {} is {}, which are not {} heads of an even size",
                        model_.label(), t.name, to_string(t.shape), out.rope_heads);
  }

  const TensorSource& model_;
  const ModelSpec& spec_;
  const Json& config_;
  const std::string& file_;
  const GgufArchitecture& architecture_;
  std::map<std::string, std::map<int64_t, const TensorInfo*>> experts_;  // by name and number
  std::map<std::string, size_t> left_out_;  // words of the part: tensors
  GgufExport e_;
};

}  // namespace

GgufExport export_model(const TensorSource& model, const ModelSpec& spec, const Json& config,
                        const std::string& file) {
  return Exporter(model, spec, config, file).run();
}

}  // namespace lewis
