#include "calibrate/probe.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace lewis {

void prune_rows(Threads& threads, std::span<float> weight, int64_t out, int64_t in,
                std::span<const float> s, double sparsity) {
  const auto zeros = static_cast<int64_t>(static_cast<double>(in) * sparsity);
  if (zeros <= 0) return;
  std::vector<float> root(s.size());
  std::transform(s.begin(), s.end(), root.begin(), [](float v) { return std::sqrt(v); });
  constexpr int64_t kRows = 16;  // of one piece of work
  threads.run(static_cast<size_t>((out + kRows - 1) / kRows), [&](size_t piece) {
    std::vector<std::pair<float, int64_t>> scores(static_cast<size_t>(in));
    const int64_t first = static_cast<int64_t>(piece) * kRows;
    for (int64_t r = first; r < std::min(out, first + kRows); ++r) {
      float* row = weight.data() + r * in;
      for (int64_t j = 0; j < in; ++j) scores[j] = {std::abs(row[j]) * root[j], j};
      // Pairs compare by score, then index: the first `zeros` are those of a stable sort.
      if (zeros < in) std::nth_element(scores.begin(), scores.begin() + zeros, scores.end());
      for (int64_t k = 0; k < std::min(zeros, in); ++k) row[scores[k].second] = 0;
    }
  });
}

}  // namespace lewis
