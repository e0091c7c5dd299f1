#include "io/gguf_types.h"

#include <algorithm>
#include <array>

#include "base/dtype.h"
#include "base/error.h"
#include "io/gguf_blocks/blocks.h"

namespace lewis {
namespace {

constexpr std::array<GgufTypeInfo, 15> kTypes = {{{GgufType::kF32, "F32", 1, 4},
                                                  {GgufType::kF16, "F16", 1, 2},
                                                  {GgufType::kBF16, "BF16", 1, 2},
                                                  {GgufType::kQ4_0, "Q4_0", 32, 18},
                                                  {GgufType::kQ4_1, "Q4_1", 32, 20},
                                                  {GgufType::kQ5_0, "Q5_0", 32, 22},
                                                  {GgufType::kQ5_1, "Q5_1", 32, 24},
                                                  {GgufType::kQ8_0, "Q8_0", 32, 34},
                                                  {GgufType::kIQ4_NL, "IQ4_NL", 32, 18},
                                                  {GgufType::kMXFP4, "MXFP4", 32, 17},
                                                  {GgufType::kQ2_K, "Q2_K", 256, 84},
                                                  {GgufType::kQ3_K, "Q3_K", 256, 110},
                                                  {GgufType::kQ4_K, "Q4_K", 256, 144},
                                                  {GgufType::kQ5_K, "Q5_K", 256, 176},
                                                  {GgufType::kQ6_K, "Q6_K", 256, 210}}};

}  // namespace

std::span<const GgufTypeInfo> gguf_types() { return kTypes; }

const GgufTypeInfo* find_gguf_type(uint32_t number) {
  const auto row = std::ranges::find(kTypes, static_cast<GgufType>(number), &GgufTypeInfo::type);
  return row == kTypes.end() ? nullptr : &*row;
}

const GgufTypeInfo& gguf_type(GgufType type) {
  const GgufTypeInfo* row = find_gguf_type(static_cast<uint32_t>(type));
  if (!row) throw failed_error("GGUF: type {} is not known", static_cast<uint32_t>(type));
  return *row;
}

uint64_t gguf_bytes(GgufType type, int64_t numbers) {
  const GgufTypeInfo& row = gguf_type(type);
  return static_cast<uint64_t>(numbers / row.block) * row.bytes;
}

void encode_gguf(GgufType type, std::span<const float> row, std::span<const float> importances,
                 std::byte* out) {
  switch (type) {
    case GgufType::kF32:
      return narrow(row, DType::kF32, out);
    case GgufType::kF16:
      return narrow(row, DType::kF16, out);
    case GgufType::kBF16:
      return narrow(row, DType::kBF16, out);
    case GgufType::kQ8_0:
    case GgufType::kMXFP4:
      return encode_by_largest(type, row, out);
    case GgufType::kQ4_0:
    case GgufType::kQ4_1:
    case GgufType::kQ5_0:
    case GgufType::kQ5_1:
      if (importances.empty()) return encode_by_largest(type, row, out);
      return encode_small_blocks(type, row, importances, out);
    case GgufType::kIQ4_NL:
      return encode_small_blocks(type, row, importances, out);
    case GgufType::kQ4_K:
    case GgufType::kQ5_K:
      return encode_k_blocks(type, row, importances, out);
    case GgufType::kQ6_K:
      return encode_q6_blocks(row, importances, out);
    case GgufType::kQ2_K:
    case GgufType::kQ3_K:
      break;
  }
  throw failed_error("GGUF: {} is not written", gguf_type(type).name);
}

void decode_gguf(GgufType type, const std::byte* blocks, std::span<float> out) {
  switch (type) {
    case GgufType::kF32:
      return widen(DType::kF32, blocks, out);
    case GgufType::kF16:
      return widen(DType::kF16, blocks, out);
    case GgufType::kBF16:
      return widen(DType::kBF16, blocks, out);
    default:
      return decode_blocks(type, blocks, out);
  }
}

}  // namespace lewis
