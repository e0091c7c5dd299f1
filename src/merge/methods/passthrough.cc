// passthrough: one model's tensor, times scale: what stacks of layers are made of.
#include "merge/method.h"

namespace lewis {
namespace {

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass&) {
  auto s = std::make_unique<Survey>();
  if (task.models[0]["scale"] == 1) s->copy_of = 0;
  return s;
}

LEWIS_VECTORIZED void scale(const float* x, float factor, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * factor;
}

void blend(const TensorTask& task, const Survey&, const Chunk& chunk, std::span<float> out) {
  scale(chunk.models[0].data(), static_cast<float>(task.models[0]["scale"]), out.size(),
        out.data());
}

}  // namespace

extern const MergeMethod kPassthrough = {
    .name = "passthrough",
    .base = BaseRole::kModel,
    .max_models = 1,
    .about = "The tensor of one model, times `scale`: what stacks of layers are made of.",
    .model_parameters = {{"scale", 1}},
    .survey = survey,
    .blend = blend};

}  // namespace lewis
