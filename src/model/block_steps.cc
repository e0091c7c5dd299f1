#include "model/block_steps.h"

#include "model/mixer.h"

namespace lewis {

const ExpertsStep* BlockSteps::experts() const {
  for (const Step& step : steps) {
    if (const auto* experts = std::get_if<ExpertsStep>(&step.does)) return experts;
  }
  return nullptr;
}

bool LayerSpec::operator==(const LayerSpec& other) const {
  return window == other.window && rope == other.rope && routed == other.routed &&
         mixes == other.mixes && feeds == other.feeds && mixer->equals(*other.mixer);
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
    const Value projected = block.layer().routed ? block.experts(x) : block.mlp(x);
    block.norm_in_place(norms.after_mlp, projected, spec.norm);
    block.add_to_stream(projected, spec.residual_multiplier * spec.mlp_multiplier);
  }
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
