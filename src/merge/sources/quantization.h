// How config.json describes weights that are not plain numbers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/json_fwd.h"

namespace lewis {

// Packed integers cannot be merged. Throws Error(kInput) when `config` (a config.json) says that
// the weights are. `label` names the model.
void refuse_packed(const Json& config, std::string_view label);

// How an FP8 checkpoint scales its weights.
struct Fp8Scheme {
  std::optional<std::array<int64_t, 2>> block;  // rows and columns of one scale, if in blocks
  bool cache_scales = false;                    // there are scales of a float8 KV cache
};

// Understands quant_method "fp8" (DeepSeek, Qwen, AutoFP8) and "compressed-tensors" with format
// "float-quantized"; none: config.json has no quantization_config. Throws Error(kInput) that names
// the key for everything else.
std::optional<Fp8Scheme> read_fp8_scheme(const Json& config, std::string_view label);

}  // namespace lewis
