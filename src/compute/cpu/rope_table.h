// Cosines and sines of rotary position embeddings, computed once per position.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lewis {

class RopeTable {
 public:
  RopeTable(std::span<const float> inverse_frequency, float factor)
      : inverse_frequency_(inverse_frequency.begin(), inverse_frequency.end()), factor_(factor) {}

  bool is_for(std::span<const float> inverse_frequency, float factor) const;
  // Computes the values of positions [0, positions) that are missing.
  void reach(int64_t positions);
  const float* cos(int64_t position) const { return cos_.data() + position * half(); }  // [half]
  const float* sin(int64_t position) const { return sin_.data() + position * half(); }
  int64_t half() const { return static_cast<int64_t>(inverse_frequency_.size()); }

 private:
  std::vector<float> inverse_frequency_;
  float factor_;
  int64_t positions_ = 0;
  std::vector<float> cos_, sin_;  // [positions, half]
};

}  // namespace lewis
