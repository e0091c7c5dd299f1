#include "model/block_steps.h"

#include <tuple>

#include "model/mixer.h"

namespace lewis {

const ExpertsStep* BlockSteps::experts() const {
  for (const Step& step : steps) {
    if (const auto* experts = std::get_if<ExpertsStep>(&step.does)) return experts;
  }
  return nullptr;
}

bool LayerSpec::operator==(const LayerSpec& other) const {
  const auto numbers = [](const LayerSpec& l) {
    return std::tuple(l.head_dim, l.kv_heads, l.intermediate, l.keys_are_values, l.kv_source,
                      l.lends_kv);
  };
  return numbers(*this) == numbers(other) && window == other.window && chunk == other.chunk &&
         rope == other.rope && routed == other.routed && mixes == other.mixes &&
         feeds == other.feeds && mixer->equals(*other.mixer);
}

HeadShape head_shape(const ModelSpec& spec, int64_t layer) {
  const LayerSpec& l = spec.layer.at(static_cast<size_t>(layer));
  return {spec.heads, l.kv_heads ? l.kv_heads : spec.kv_heads,
          l.head_dim ? l.head_dim : spec.head_dim};
}

BlockSteps block_steps(const ModelSpec& spec, int64_t layer) {
  BlockBuilder block(spec, layer);
  const BlockNorms& norms = spec.norms;
  Value x = kStream;
  if (block.layer().mixes) {
    x = block.norm(norms.before_attention, kStream);
    const Value mixed = block.layer().mixer->describe(block, x);
    block.norm_in_place(norms.after_attention, mixed, spec.norm);
    block.add_to_stream(mixed, spec.residual_multiplier);
  }
  if (block.layer().feeds) {
    if (!spec.parallel) x = block.norm(norms.before_mlp, kStream);
    const bool beside = block.layer().routed && spec.experts.beside_mlp;
    const Value projected = beside                 ? block.mlp_and_experts(x)
                            : block.layer().routed ? block.experts(x)
                                                   : block.mlp(x);
    block.norm_in_place(norms.after_mlp, projected, spec.norm);
    block.add_to_stream(projected, spec.residual_multiplier * spec.mlp_multiplier);
  }
  if (spec.per_layer_width) block.add_per_layer_input();
  if (spec.layer_scalar) block.scale_stream("layer_scalar");
  return block.finish();
}

std::vector<LinearLayer> linear_layers(const ModelSpec& spec, int64_t layer) {
  return block_steps(spec, layer).linears;
}

std::vector<std::string> linear_names(const ModelSpec& spec, int64_t layer) {
  std::vector<std::string> names;
  for (LinearLayer& linear : linear_layers(spec, layer)) names.push_back(std::move(linear.name));
  return names;
}

}  // namespace lewis
