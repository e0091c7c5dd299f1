// nearswap: moves the base towards the model where they are near: share t / |model - base|, at most
// 1.
#include <algorithm>
#include <cmath>

#include "merge/method.h"

namespace lewis {
namespace {

std::unique_ptr<Survey> survey(const TensorTask&, const ChunkPass&) {
  return std::make_unique<Survey>();
}

LEWIS_VECTORIZED void near(const float* base, const float* model, float t, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    const float distance = std::abs(base[i] - model[i]);
    const float share = t / (distance < 1e-6f ? 1e-6f : distance);
    const float clipped = share > 1 ? 1 : share < 0 ? 0 : share;
    out[i] = clipped * model[i] + (1 - clipped) * base[i];
  }
}

void blend(const TensorTask& task, const Survey&, const Chunk& chunk, std::span<float> out) {
  near(chunk.base.data(), chunk.models[0].data(), static_cast<float>(task["t"]), out.size(),
       out.data());
}

}  // namespace

extern const MergeMethod kNearswap = {
    .name = "nearswap",
    .base = BaseRole::kApart,
    .max_models = 1,
    .about =
        "The base, moved towards one model where both are near: by the share t / |model - base| of "
        "the way, at most all of it.",
    .whole_parameters = {{"t"}},
    .survey = survey,
    .blend = blend};

}  // namespace lewis
