// The types of the tensors in a GGUF file, as ggml knows them: plain numbers, and blocks of rounded
// numbers that share scales. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lewis {

// Their values are ggml's numbers. In a block of 32, Q4_0, Q5_0 and Q8_0 have a scale, Q4_1 and
// Q5_1 a scale and a minimum, IQ4_NL a scale for codes of unequal steps, MXFP4 a power of two. The
// K types have blocks of 256: groups of 16 or 32 with a scale each, which share scales in turn.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kBF16 = 30,
  kMXFP4 = 39,
};

struct GgufTypeInfo {
  GgufType type;
  std::string_view name;  // "Q4_K"
  int64_t block = 1;      // numbers of a row that are stored together
  uint64_t bytes = 4;     // of a block
};
// All types that are known. gguf_type: the row of one of them; null for another number.
std::span<const GgufTypeInfo> gguf_types();
const GgufTypeInfo* find_gguf_type(uint32_t number);
const GgufTypeInfo& gguf_type(GgufType type);

// The bytes of `numbers` numbers of that type: of whole blocks.
uint64_t gguf_bytes(GgufType type, int64_t numbers);

// Rounds a row of whole blocks to a type other than Q2_K and Q3_K, which are only read. `out` has
// gguf_bytes. `importances`: empty, or one number >= 0 per column, which says how much the square
// of its rounding error counts: the mean square of the column's input. Q8_0, MXFP4 and plain types
// do not use them. The bytes are those of ggml 0.26.0 (ggml_quantize_chunk), whose search for
// scales is followed operation by operation (docs/gguf.md).
void encode_gguf(GgufType type, std::span<const float> row, std::span<const float> importances,
                 std::byte* out);

// The numbers that whole blocks stand for, as ggml computes them (to_float).
void decode_gguf(GgufType type, const std::byte* blocks, std::span<float> out);

}  // namespace lewis
