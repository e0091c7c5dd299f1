#include "base/random.h"

#include "base/hash.h"

namespace lewis {
namespace {

// Many, so that g++ makes loops over vectors of them instead of unrolling into scalars.
constexpr size_t kLanes = 64;

// Quads first_quad ... first_quad + kLanes - 1: philox4x32 in as many lanes.
LEWIS_VECTORIZED void fill_quads(uint64_t first_quad, const uint32_t* stream, const uint32_t* key,
                                 uint32_t* out) {
  uint32_t c0[kLanes], c1[kLanes], c2[kLanes], c3[kLanes];
  for (size_t i = 0; i < kLanes; ++i) {
    c0[i] = static_cast<uint32_t>(first_quad + i);
    c1[i] = static_cast<uint32_t>((first_quad + i) >> 32);
    c2[i] = stream[0];
    c3[i] = stream[1];
  }
  uint32_t key0 = key[0], key1 = key[1];
  for (int round = 0; round < 10; ++round) {
    for (size_t i = 0; i < kLanes; ++i) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c0[i];
      const uint64_t p1 = uint64_t{0xCD9E8D57} * c2[i];
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ key0;
      c1[i] = static_cast<uint32_t>(p1);
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ key1;
      c3[i] = static_cast<uint32_t>(p0);
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  for (size_t i = 0; i < kLanes; ++i) {
    out[4 * i] = c0[i];
    out[4 * i + 1] = c1[i];
    out[4 * i + 2] = c2[i];
    out[4 * i + 3] = c3[i];
  }
}

}  // namespace

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> c, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return c;
}

TensorRandom::TensorRandom(uint64_t seed, uint64_t model, std::string_view tensor) {
  const uint64_t name = xxh3_64(std::as_bytes(std::span(tensor)));
  // The model's number is mixed into the stream words, the seed is the key.
  const uint64_t stream = name ^ (model + 1) * 0x9E3779B97F4A7C15u;
  key_ = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  stream_ = {static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
}

void TensorRandom::fill(uint64_t first, std::span<uint32_t> out) const {
  for (size_t i = 0; i < out.size();) {
    const uint64_t at = first + i;
    if (at % 4 == 0 && out.size() - i >= 4 * kLanes) {
      fill_quads(at / 4, stream_.data(), key_.data(), out.data() + i);
      i += 4 * kLanes;
    } else {
      const std::array<uint32_t, 4> numbers = quad(at / 4);
      for (size_t k = at % 4; k < 4 && i < out.size(); ++k) out[i++] = numbers[k];
    }
  }
}

}  // namespace lewis
