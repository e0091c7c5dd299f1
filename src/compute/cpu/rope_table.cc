#include "compute/cpu/rope_table.h"

#include <algorithm>
#include <cmath>

namespace lewis {

bool RopeTable::is_for(std::span<const float> inverse_frequency, float factor) const {
  return factor == factor_ && std::equal(inverse_frequency.begin(), inverse_frequency.end(),
                                         inverse_frequency_.begin(), inverse_frequency_.end());
}

void RopeTable::reach(int64_t positions) {
  if (positions <= positions_) return;
  positions = std::max(positions, 2 * positions_);
  cos_.resize(static_cast<size_t>(positions * half()));
  sin_.resize(cos_.size());
  for (size_t i = static_cast<size_t>(positions_ * half()); i < cos_.size(); ++i) {
    const size_t position = i / inverse_frequency_.size();
    const float angle =
        static_cast<float>(position) * inverse_frequency_[i % inverse_frequency_.size()];
    cos_[i] = std::cos(angle) * factor_;
    sin_[i] = std::sin(angle) * factor_;
  }
  positions_ = positions;
}

}  // namespace lewis
