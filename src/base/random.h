// Counter-based random numbers: the value at a place depends on the place alone, never on the
// order or the number of threads.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace lewis {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The random numbers of one tensor of one model: keyed by (seed, model, tensor name), addressed by
// the element's index in the tensor.
class TensorRandom {
 public:
  TensorRandom(uint64_t seed, uint64_t model, std::string_view tensor);
  // Four independent numbers for elements 4 * quad ... 4 * quad + 3.
  std::array<uint32_t, 4> quad(uint64_t quad) const {
    return philox4x32(
        {static_cast<uint32_t>(quad), static_cast<uint32_t>(quad >> 32), stream_[0], stream_[1]},
        key_);
  }
  // Uniform in [0, 2^32).
  uint32_t element(uint64_t index) const { return quad(index / 4)[index % 4]; }
  // out[i] = element(first + i), many at a time.
  void fill(uint64_t first, std::span<uint32_t> out) const;

 private:
  std::array<uint32_t, 2> key_, stream_;
};

}  // namespace lewis
