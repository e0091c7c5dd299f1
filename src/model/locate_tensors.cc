#include "base/error.h"
#include "io/tensor_names.h"
#include "io/tensor_source.h"
#include "io/tied_head.h"
#include "model/model_spec.h"

namespace lewis {

ModelSpec locate_tensors(ModelSpec spec, const TensorSource& source) {
  // The text model is where the embeddings are, by any spelling of their name; the head likewise.
  const NameIndex names(source);
  const auto place = [&](std::string_view name, std::string& prefix, std::string_view after) {
    const TensorInfo* found = names.find(name);
    if (found && found->name.ends_with(after))
      prefix = found->name.substr(0, found->name.size() - after.size());
  };
  const std::string embeddings = fmt::format("{}.weight", spec.embeddings);
  place(spec.prefix + embeddings, spec.prefix, embeddings);
  spec.head = head_name_beside(spec.prefix + embeddings);
  spec.head.resize(spec.head.size() - std::string_view("weight").size());
  place("lm_head.weight", spec.head, "weight");
  for (int64_t i = 0; i < spec.layers; ++i) {
    if (!spec.layer[static_cast<size_t>(i)].routed) continue;
    if (spec.experts.shown_split) break;
    const std::string experts = fmt::format("{}layers.{}.mlp.experts.", spec.prefix, i);
    // Fused, or shown one by one of fused ones (io/expert_tensors.h): by transformers 5's names.
    spec.experts.fused = source.find(experts + "gate_up_proj") != nullptr;
    if (spec.experts.fused || source.find(experts + "0.up_proj.weight")) {
      spec.experts.module = "mlp";
      spec.experts.names = {"gate_proj", "up_proj", "down_proj"};
      if (source.find(fmt::format("{}layers.{}.mlp.router.weight", spec.prefix, i)))
        spec.experts.gate_name = "router";
    }
    break;
  }
  return spec;
}

}  // namespace lewis
