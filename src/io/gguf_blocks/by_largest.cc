// Blocks of 32 whose scale follows from the largest magnitude, or from the range.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/gguf_blocks/blocks.h"
#include "io/gguf_blocks/lanes.h"

namespace lewis {
namespace {

constexpr size_t kParts = kSmallBlock / kLanes;
using Codes = std::array<uint8_t, kSmallBlock>;

struct Block {
  Floats part[kParts];
};

// Magnitude, least and largest of a block.
struct Extent {
  float magnitude = 0, least = 0, most = 0;
};

LEWIS_VECTORIZED void measure(const float* x, Extent& extent) {
  Block block;
  std::memcpy(&block, x, sizeof block);
  Floats size, least = block.part[0], most = block.part[0];
  magnitude_of(block.part[0], size);
  for (size_t i = 1; i < kParts; ++i) {
    const Floats& v = block.part[i];
    Floats magnitude;
    magnitude_of(v, magnitude);
    size = magnitude > size ? magnitude : size;
    least = v < least ? v : least;
    most = v > most ? v : most;
  }
  extent = {size[0], least[0], most[0]};
  for (int lane = 1; lane < kLanes; ++lane) {
    extent.magnitude = std::max(extent.magnitude, size[lane]);
    extent.least = std::min(extent.least, least[lane]);
    extent.most = std::max(extent.most, most[lane]);
  }
}

// codes = (x - least) * inverse + shift, cut to 0..most and rounded towards 0. The inverse of a
// scale that is nearly 0 is infinite.
LEWIS_VECTORIZED void code_linear(const float* x, float least, float inverse, float shift,
                                  int32_t most, uint8_t* codes) {
  Block block;
  std::memcpy(&block, x, sizeof block);
  int32_t all[kSmallBlock];
  for (size_t i = 0; i < kParts; ++i) {
    Floats value = (block.part[i] - least) * inverse + shift;
    value = value > 0 ? value : Floats{};
    value = value < 255 ? value : 255 - Floats{};
    Ints code = __builtin_convertvector(value, Ints);
    clamp(0, most, code);
    std::memcpy(all + i * kLanes, &code, sizeof code);
  }
  for (size_t i = 0; i < kSmallBlock; ++i) codes[i] = static_cast<uint8_t>(all[i]);
}

// codes = x * inverse rounded to the nearest, halves away from 0, cut to -127..127.
LEWIS_VECTORIZED void code_signed(const float* x, float inverse, std::byte* codes) {
  Block block;
  std::memcpy(&block, x, sizeof block);
  int32_t all[kSmallBlock];
  for (size_t i = 0; i < kParts; ++i) {
    const Floats value = block.part[i] * inverse;
    Floats size;
    magnitude_of(value, size);
    size = size < 127 ? size + 0.49999997f : 127 - Floats{};  // the number before 0.5
    const Ints code = __builtin_convertvector(size, Ints), negative = value < 0;
    const Ints signed_code = (code ^ negative) - negative;
    std::memcpy(all + i * kLanes, &signed_code, sizeof code);
  }
  for (size_t i = 0; i < kSmallBlock; ++i) codes[i] = static_cast<std::byte>(all[i]);
}

// The code of the nearest number of kFloat4 times `unit`, the first of those as near.
LEWIS_VECTORIZED void code_float4(const float* x, float unit, uint8_t* codes) {
  Block block;
  std::memcpy(&block, x, sizeof block);
  int32_t all[kSmallBlock];
  for (size_t i = 0; i < kParts; ++i) {
    Floats best;
    magnitude_of(block.part[i], best);
    Ints code{};
    for (size_t c = 1; c < kFloat4.size(); ++c) {
      Floats miss;
      magnitude_of(static_cast<float>(kFloat4[c]) * unit - block.part[i], miss);
      const Ints nearer = miss < best;
      best = nearer ? miss : best;
      code = nearer ? static_cast<int32_t>(c) - Ints{} : code;
    }
    std::memcpy(all + i * kLanes, &code, sizeof code);
  }
  for (size_t i = 0; i < kSmallBlock; ++i) codes[i] = static_cast<uint8_t>(all[i]);
}

float inverse_of(float scale) { return scale != 0 ? 1.0f / scale : 0.0f; }

// The first number of the block that is `value`, as numbers compare: with the sign of its zero.
float first_of(const float* x, float value) { return *std::find(x, x + kSmallBlock, value); }

// `half` codes lie on each side of 0, which is code `half`; the largest magnitude is code 0.
void encode_scaled(const float* x, int half, std::byte* out, std::byte* high, std::byte* low) {
  Extent extent;
  measure(x, extent);
  const float* largest =
      std::find_if(x, x + kSmallBlock, [&](float v) { return std::abs(v) == extent.magnitude; });
  const float scale = (extent.magnitude > 0 ? *largest : 0.0f) / static_cast<float>(-half);
  put_half(scale, out);
  Codes codes;
  code_linear(x, 0, inverse_of(scale), static_cast<float>(half) + 0.5f, 2 * half - 1, codes.data());
  pack_small(codes.data(), high, low);
}

// Codes 0..most between the least and the largest value.
void encode_range(const float* x, int most, std::byte* out, std::byte* high, std::byte* low) {
  Extent extent;
  measure(x, extent);
  const float least = first_of(x, extent.least);
  const float scale = (extent.most - least) / static_cast<float>(most);
  put_half(scale, out);
  put_half(least, out + 2);
  Codes codes;
  code_linear(x, least, inverse_of(scale), 0.5f, most, codes.data());
  pack_small(codes.data(), high, low);
}

void encode_bytes(const float* x, std::byte* out) {
  Extent extent;
  measure(x, extent);
  const float scale = extent.magnitude / 127;
  put_half(scale, out);
  code_signed(x, inverse_of(scale), out + 2);
}

void encode_mxfp4(const float* x, std::byte* out) {
  Extent extent;
  measure(x, extent);
  const int power =
      extent.magnitude > 0 ? static_cast<int>(std::floor(std::log2(extent.magnitude))) : -127;
  const auto exponent = static_cast<uint8_t>(std::max(0, power - 2 + 127));
  out[0] = static_cast<std::byte>(exponent);
  Codes codes;
  code_float4(x, half_power(exponent), codes.data());
  pack_small(codes.data(), nullptr, out + 1);
}

void encode_block(GgufType type, const float* x, std::byte* out) {
  switch (type) {
    case GgufType::kQ4_0:
      return encode_scaled(x, 8, out, nullptr, out + 2);
    case GgufType::kQ5_0:
      return encode_scaled(x, 16, out, out + 2, out + 6);
    case GgufType::kQ4_1:
      return encode_range(x, 15, out, nullptr, out + 4);
    case GgufType::kQ5_1:
      return encode_range(x, 31, out, out + 4, out + 8);
    case GgufType::kMXFP4:
      return encode_mxfp4(x, out);
    default:
      return encode_bytes(x, out);
  }
}

}  // namespace

void encode_by_largest(GgufType type, std::span<const float> row, std::byte* out) {
  const uint64_t bytes = gguf_type(type).bytes;
  for (size_t i = 0; i + kSmallBlock <= row.size(); i += kSmallBlock, out += bytes)
    encode_block(type, &row[i], out);
}

}  // namespace lewis
