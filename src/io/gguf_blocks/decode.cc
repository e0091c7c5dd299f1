#include "base/error.h"
#include "io/gguf_blocks/blocks.h"

namespace lewis {
namespace {

unsigned at(const std::byte* in, size_t i) { return std::to_integer<unsigned>(in[i]); }
int signed_at(const std::byte* in, size_t i) { return static_cast<int8_t>(in[i]); }

// Code i of a block of 32 (pack_small).
unsigned small_code(const std::byte* high, const std::byte* low, size_t i) {
  const unsigned four = i < 16 ? at(low, i) & 15 : at(low, i - 16) >> 4;
  return high ? four | (at(high, i / 8) >> i % 8 & 1) << 4 : four;
}

// (code - shift) * scale, or code * scale + minimum.
void decode_small(GgufType type, const std::byte* in, float* out) {
  const bool has_minimum = type == GgufType::kQ4_1 || type == GgufType::kQ5_1;
  const bool has_high = type == GgufType::kQ5_0 || type == GgufType::kQ5_1;
  const int shift = has_minimum ? 0 : has_high ? 16 : 8;
  const float scale = get_half(in), minimum = has_minimum ? get_half(in + 2) : 0;
  const std::byte* rest = in + (has_minimum ? 4 : 2);
  for (size_t i = 0; i < kSmallBlock; ++i) {
    const auto code =
        static_cast<int>(small_code(has_high ? rest : nullptr, has_high ? rest + 4 : rest, i));
    const float value = static_cast<float>(code - shift) * scale;
    out[i] = has_minimum ? value + minimum : value;
  }
}

void decode_bytes(const std::byte* in, float* out) {
  const float scale = get_half(in);
  for (size_t i = 0; i < kSmallBlock; ++i)
    out[i] = static_cast<float>(signed_at(in, 2 + i)) * scale;
}

void decode_steps(const std::array<int8_t, 16>& steps, float scale, const std::byte* low,
                  float* out) {
  for (size_t i = 0; i < kSmallBlock; ++i)
    out[i] = scale * static_cast<float>(steps[small_code(nullptr, low, i)]);
}

// Two bits of 16 groups of 16, with scale and minimum as four bits each.
void decode_q2(const std::byte* in, float* out) {
  const float scale = get_half(in + 80), minimum = get_half(in + 82);
  for (size_t i = 0; i < kLargeBlock; ++i) {
    const size_t half = i / 128, shift = i % 128 / 32 * 2;
    const unsigned packed = at(in, i / 16);
    const unsigned code = at(in, 16 + half * 32 + i % 32) >> shift & 3;
    out[i] = scale * static_cast<float>(packed & 15) * static_cast<float>(code) -
             minimum * static_cast<float>(packed >> 4);
  }
}

// Three bits, of which the highest stands apart, of 16 groups of 16 with scales of six bits.
void decode_q3(const std::byte* in, float* out) {
  const std::byte *high = in, *low = in + 32, *scales = in + 96;
  const float all = get_half(in + 108);
  for (size_t i = 0; i < kLargeBlock; ++i) {
    const size_t half = i / 128, part = i / 32, shift = i % 128 / 32 * 2, group = i / 16;
    const unsigned four = group < 8 ? at(scales, group) & 15 : at(scales, group - 8) >> 4;
    const unsigned two = at(scales, 8 + group % 4) >> (group / 4 * 2) & 3;
    const float scale = all * static_cast<float>(static_cast<int>(four | two << 4) - 32);
    const int code = static_cast<int>(at(low, half * 32 + i % 32) >> shift & 3) -
                     ((at(high, i % 32) >> part & 1) ? 0 : 4);
    out[i] = scale * static_cast<float>(code);
  }
}

void decode_k(GgufType type, const std::byte* in, float* out) {
  const bool five = type == GgufType::kQ5_K;
  const float all = get_half(in), minimum = get_half(in + 2);
  const std::byte *high = in + 16, *low = five ? high + 32 : high;
  for (size_t group = 0; group < 8; ++group) {
    const ScaleAndMinimum packed = get_scale(in + 4, group);
    const float scale = all * static_cast<float>(packed.scale);
    const float least = minimum * static_cast<float>(packed.minimum);
    for (size_t i = 0; i < 32; ++i) {
      unsigned code = at(low, group / 2 * 32 + i) >> (group % 2 * 4) & 15;
      if (five) code |= (at(high, i) >> group & 1) << 4;
      out[32 * group + i] = scale * static_cast<float>(code) - least;
    }
  }
}

void decode_q6(const std::byte* in, float* out) {
  const std::byte *low = in, *high = in + 128, *scales = in + 192;
  const float all = get_half(in + 208);
  for (size_t i = 0; i < kLargeBlock; ++i) {
    const size_t half = i / 128, quarter = i % 128 / 32, within = i % 32;
    const unsigned four = at(low, half * 64 + quarter % 2 * 32 + within) >> (quarter / 2 * 4) & 15;
    const unsigned two = at(high, half * 32 + within) >> (quarter * 2) & 3;
    const int code = static_cast<int>(four | two << 4) - 32;
    out[i] = all * static_cast<float>(signed_at(scales, i / 16)) * static_cast<float>(code);
  }
}

void decode_block(GgufType type, const std::byte* in, float* out) {
  switch (type) {
    case GgufType::kQ4_0:
    case GgufType::kQ4_1:
    case GgufType::kQ5_0:
    case GgufType::kQ5_1:
      return decode_small(type, in, out);
    case GgufType::kQ8_0:
      return decode_bytes(in, out);
    case GgufType::kIQ4_NL:
      return decode_steps(kUnequalSteps, get_half(in), in + 2, out);
    case GgufType::kMXFP4:
      return decode_steps(kFloat4, half_power(std::to_integer<uint8_t>(in[0])), in + 1, out);
    case GgufType::kQ2_K:
      return decode_q2(in, out);
    case GgufType::kQ3_K:
      return decode_q3(in, out);
    case GgufType::kQ4_K:
    case GgufType::kQ5_K:
      return decode_k(type, in, out);
    case GgufType::kQ6_K:
      return decode_q6(in, out);
    default:
      throw failed_error("GGUF: {} has no blocks", gguf_type(type).name);
  }
}

}  // namespace

void decode_blocks(GgufType type, const std::byte* blocks, std::span<float> out) {
  const GgufTypeInfo& row = gguf_type(type);
  const auto size = static_cast<size_t>(row.block);
  for (size_t i = 0; i + size <= out.size(); i += size, blocks += row.bytes)
    decode_block(type, blocks, out.data() + i);
}

}  // namespace lewis
