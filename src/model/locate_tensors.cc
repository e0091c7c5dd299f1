#include "base/error.h"
#include "io/tensor_source.h"
#include "model/model_spec.h"

namespace lewis {

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
