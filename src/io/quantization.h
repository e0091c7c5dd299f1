// How config.json describes weights that are not plain numbers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json_fwd.h"

namespace lewis {

// Packed integers cannot be merged. Throws Error(kInput) when `config` (a config.json) says that
// the weights are. `label` names the model.
void refuse_packed(const Json& config, std::string_view label);

// How the quantised weights of a checkpoint are stored.
struct QuantizationScheme {
  std::string method;  // quant_method
  bool mxfp4 = false;  // 4-bit codes in blocks of 32 with an exponent each; else float8 with scales
  // The scales that float8 weights may have. All groups of compressed-tensors count together.
  bool per_tensor = false, per_row = false, per_column = false;
  std::optional<std::array<int64_t, 2>> block;  // rows and columns of one scale, if in blocks
  bool byte_exponents = false;                  // a scale that is a byte e is 2^(e - 127)
  bool cache_scales = false;                    // there are scales of a float8 KV cache
};

// Understands quant_method "fp8" (DeepSeek, Qwen, Mistral, AutoFP8), "fbgemm_fp8" (Llama),
// "compressed-tensors" with formats "float-quantized" and "naive-quantized", and "mxfp4" (gpt-oss).
// It stands under quantization_config or compression_config, at the top or in text_config. None:
// config.json has no such key. Throws Error(kInput) that names the key for everything else.
std::optional<QuantizationScheme> read_quantization(const Json& config, std::string_view label);

// Removes what `config` says of quantisation, once the weights are plain numbers.
void remove_quantization(Json& config);

}  // namespace lewis
