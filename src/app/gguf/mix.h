// Which type each tensor of a GGUF file gets.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/gguf/export.h"
#include "io/gguf_types.h"
#include "model/model_spec.h"

namespace lewis {

// A mix of types under the name that people ask for ("q4_k_m"): most matrices have `type`.
struct GgufMix {
  std::string_view name = "f16";
  GgufType type = GgufType::kF16;
  uint32_t file_type = 1;  // general.file_type: llama.cpp's enum llama_ftype
};
std::span<const GgufMix> gguf_mixes();
// The mix of that name; "q4_k" and "q5_k" are those with _m, as for llama-quantize. Error(kUsage)
// with the nearest.
const GgufMix& gguf_mix(std::string name);
// Sets the types of all matrices of `e` that are not to stay F32, by the rules of llama-quantize
// (llama.cpp, src/llama-quant.cpp, with ggml 0.26.0): the output and, where there is none, the
// embeddings get Q6_K; values of attention and the second matrix of an MLP get more bits in some
// layers; the attention of a mixture of eight experts more, too. Rows that do not fill the blocks
// of a type get one with smaller blocks, and a note in `e` says of which tensors. `weighted`:
// importances are known.
void choose_types(const GgufMix& mix, const ModelSpec& spec, bool weighted, GgufExport& e);

}  // namespace lewis
