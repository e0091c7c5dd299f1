// Statistics as llama.cpp's importance matrix, the GGUF file that llama-imatrix writes and
// llama-quantize reads: the same sums of squares under other names.
#pragma once

#include <filesystem>

#include "calibrate/statistics.h"
#include "io/tensor_source.h"
#include "model/mixer.h"

namespace lewis {

// What a linear layer of a block is called in ggml, by its name in the block ("self_attn.q_proj"):
// those of mixers, MLPs and shared experts, or null. (gguf-py 0.19.0, tensor_mapping.py)
const GgmlName* ggml_name_of(std::string_view module);

// Per weight with the ggml name NAME ("blk.3.attn_q.weight") the tensors NAME.in_sum2, F32
// [in_features] or [experts, in_features]: sums of squares over tokens; and NAME.counts, F32 [1] or
// [experts, 1]: how many tokens those were. Metadata: general.type "imatrix"; imatrix.datasets,
// imatrix.chunk_count (sequences), imatrix.chunk_size (their mean length, rounded up);
// lewis.sequences, lewis.fused (as in a statistics file) and lewis.origin.KEY. Sums are rounded to
// float32. (llama.cpp, tools/imatrix/imatrix.cpp at 006e7ef9913f; names: gguf-py 0.19.0,
// tensor_mapping.py.) Error(kUsage) for the protocol reference, whose sums are not over tokens;
// Error(kFailed) for a module that has no ggml name.
void write_imatrix(const std::filesystem::path& file, const Statistics& statistics);

// The statistics of `model`'s linear layers, found by the names of its tensors, whatever its
// family. sequences is 0 where the file does not say. A weight that saw other tokens than most
// (count differs) is scaled to as many. Entries of routers, output and embeddings are not used.
// Error(kInput) that names file and entry: not an importance matrix, a weight of the model without
// an entry, an entry without a weight, sizes that differ from the weight's.
Statistics read_imatrix(const std::filesystem::path& file, const TensorSource& model);

}  // namespace lewis
