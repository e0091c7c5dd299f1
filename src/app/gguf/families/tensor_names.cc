#include "app/gguf/families/tensor_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "calibrate/imatrix.h"
#include "io/expert_tensors.h"
#include "io/layer_name.h"

namespace lewis {
namespace {

struct NamePair {
  std::string_view name, gguf;
};
// The layers of routed experts, as split_expert_name calls them.
constexpr std::array<NamePair, 3> kOfExpert = {
    {{"gate_proj", "ffn_gate_exps"}, {"up_proj", "ffn_up_exps"}, {"down_proj", "ffn_down_exps"}}};

std::optional<std::string_view> find(std::span<const NamePair> pairs, std::string_view name) {
  const auto found = std::ranges::find(pairs, name, &NamePair::name);
  if (found == pairs.end() || name.empty()) return std::nullopt;
  return found->gguf;
}

// The norm, router or linear layer that is called so within a block.
std::optional<std::string_view> in_block(std::string_view name, const ModelSpec& spec,
                                         const GgufArchitecture& architecture) {
  const std::array<NamePair, 4> norms = {{{spec.norms.before_attention, "attn_norm"},
                                          {spec.norms.after_attention, "post_attention_norm"},
                                          {spec.norms.before_mlp, architecture.norm_before_mlp},
                                          {spec.norms.after_mlp, "post_ffw_norm"}}};
  if (const auto norm = find(norms, name)) return norm;
  if (spec.qk_norm != QkNorm::kNone && name.starts_with(spec.attention)) {
    const std::string_view own = name.substr(spec.attention.size());
    if (own == spec.q_norm) return "attn_q_norm";
    if (own == spec.k_norm) return "attn_k_norm";
  }
  if (architecture.mixture && name == spec.experts.module + "." + spec.experts.gate_name)
    return "ffn_gate_inp";
  if (name == "conv.conv") return "shortconv.conv";
  if (name == "linear_attn.conv1d") return "ssm_conv1d";
  if (name == "linear_attn.norm") return "ssm_norm";
  if (const GgmlName* linear = ggml_name_of(name)) return linear->ggml;
  return std::nullopt;
}

bool may_have_bias(std::string_view ggml, const ModelSpec& spec,
                   const GgufArchitecture& architecture) {
  if (ggml == "attn_output") return architecture.output_bias;
  if (ggml == "ffn_gate" || ggml == "ffn_up" || ggml == "ffn_down") return architecture.mlp_bias;
  if (ggml == "ffn_gate_inp") return spec.experts.router_bias;
  if (ggml == "ffn_gate_inp_shexp" || ggml.starts_with("shortconv") || ggml.starts_with("ssm_"))
    return false;
  return !ggml.ends_with("_norm") || spec.norm.bias;
}

// "model.layers.3.self_attn.sinks" and others that have no ending.
std::optional<std::string> name_of_vector(std::string_view name, const ModelSpec& spec) {
  const LayerName place = split_layer(name);
  if (!place.layer || place.prefix != spec.prefix + "layers.") return std::nullopt;
  if (spec.sinks && place.rest == fmt::format(".{}sinks", spec.attention))
    return fmt::format("blk.{}.attn_sinks.weight", *place.layer);
  if (place.rest == ".linear_attn.A_log") return fmt::format("blk.{}.ssm_a", *place.layer);
  if (place.rest == ".linear_attn.dt_bias") return fmt::format("blk.{}.ssm_dt.bias", *place.layer);
  return std::nullopt;
}

}  // namespace

std::optional<std::string> gguf_name_of(std::string_view name, const ModelSpec& spec,
                                        const GgufArchitecture& architecture) {
  const size_t dot = name.rfind('.');
  if (dot == name.npos) return std::nullopt;
  const std::string_view module = name.substr(0, dot), ending = name.substr(dot);
  if (ending != ".weight" && ending != ".bias") return name_of_vector(name, spec);
  const bool weight = ending == ".weight";
  if (weight && module == fmt::format("{}{}", spec.prefix, spec.embeddings))
    return "token_embd.weight";
  if (name == spec.head + "weight") return "output.weight";
  if (module == fmt::format("{}{}", spec.prefix, spec.final_norm) && (weight || spec.norm.bias))
    return fmt::format("{}{}", architecture.final_norm, ending);
  const LayerName place = split_layer(module);
  if (!place.layer || place.prefix != spec.prefix + "layers." || place.rest.empty())
    return std::nullopt;
  const auto inside = in_block(place.rest.substr(1), spec, architecture);  // without its dot
  if (!inside || (!weight && !may_have_bias(*inside, spec, architecture))) return std::nullopt;
  return fmt::format("blk.{}.{}{}", *place.layer, *inside, ending);
}

std::optional<std::pair<std::string, int64_t>> gguf_experts_of(std::string_view name,
                                                               const ModelSpec& spec) {
  const auto expert = split_expert_name(name);
  if (!expert || (expert->bias && !spec.experts.bias)) return std::nullopt;
  const LayerName place = split_layer(expert->place);
  if (!place.layer || place.prefix != spec.prefix + "layers.") return std::nullopt;
  return std::pair(
      fmt::format("blk.{}.{}.{}", *place.layer, find(kOfExpert, expert->linear).value(),
                  expert->bias ? "bias" : "weight"),
      expert->expert);
}

}  // namespace lewis
