// A checkpoint whose weights are float8 with scales, presented as a plain bfloat16 model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "io/tensor_source.h"

namespace lewis {

struct WidenedSource {
  std::shared_ptr<const TensorSource> source;
  // Tensors of the checkpoint that `source` does not show: the scales of weights (which are in the
  // weights now), and those of activations and of the KV cache (of which a plain model has none).
  std::vector<std::string> consumed;
  // The key of config.json that is not true of `source`; empty when nothing was changed.
  std::string untrue_config_key;
};

// Shows every float8 tensor X as BF16: value times scale in float, rounded once. Its scale is
// X_scale_inv (DeepSeek, Qwen) or X_scale (compressed-tensors, AutoFP8), a factor in both: one
// number, one per row ([rows] or [rows, 1]) or one per block ([ceil(rows / b0), ceil(columns /
// b1)]). A checkpoint without float8 tensors is returned as it is. Throws Error(kInput) that names
// tensor or key: `config` (config.json) speaks of something else than plain float8 (awq, mxfp4,
// ...), a float8 tensor has no scale or one of another shape, is not a matrix, or stands beside
// more than its scale (a zero point).
WidenedSource widen_fp8(std::shared_ptr<const TensorSource> source, const Json& config);

}  // namespace lewis
