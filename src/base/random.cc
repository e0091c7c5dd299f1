#include "base/random.h"

#include "base/hash.h"

namespace lewis {

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

}  // namespace lewis
