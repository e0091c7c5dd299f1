// A checkpoint whose weights are quantised, presented as the plain bfloat16 model that they stand
// for: float8 with scales, and MXFP4.
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
  // One line that says how many weights of which kind are quantised, and which ones are not; empty
  // when nothing was changed. Then config.json says more than is true of `source`
  // (remove_quantization).
  std::string note;
};

// Shows every quantised tensor as BF16: code times scale in float, rounded once.
//
// A float8 tensor X, a matrix or a stack of them, has one scale beside it: X_scale_inv (DeepSeek,
// Qwen), X_scale (compressed-tensors, AutoFP8), or scale or qscale_weight in place of "weight"; a
// factor in all. It has one number per tensor, per matrix of a stack, per row, per column (of
// stacks, where they are stored the other way round) or per block, as config.json says. Its type is
// F32, F16, BF16 or F8_E8M0.
//
// MXFP4 has two tensors of bytes for X: X_blocks [experts, rows, groups, 16] with 32 codes per
// group, the lower half of a byte first, and X_scales [experts, rows, groups] with the exponent of
// each group. X is [experts, 32 * groups, rows], as transformers has it, which turns it around.
//
// Scales may lie in any shard. They are read with their weights, those of the elements that are
// asked for. A checkpoint without quantised tensors is returned as it is. Throws Error(kInput) that
// names tensor or key: `config` (config.json) speaks of something else, a tensor has no scale, one
// of another shape or type, or stands beside more than its scale (a zero point). Reading throws it
// for a scale that is not finite.
WidenedSource widen_quantized(std::shared_ptr<const TensorSource> source, const Json& config);

// True if a scale stands beside the float8 tensor of that name.
bool has_scale(const TensorSource& source, const std::string& weight);

}  // namespace lewis
