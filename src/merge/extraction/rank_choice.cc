#include "merge/extraction/rank_choice.h"

#include <algorithm>
#include <queue>
#include <tuple>

namespace lewis {
namespace {

// Takes one direction after the other, the best first, for as long as `wants(numbers, square)` says
// so of the next one.
template <typename F>
std::vector<int64_t> take(std::span<const MatrixSpectrum> matrices, const F& wants) {
  using Next = std::tuple<double, int64_t>;  // square per number; minus the matrix: the first wins
  std::priority_queue<Next> queue;
  std::vector<int64_t> ranks(matrices.size());
  const auto offer = [&](size_t m) {
    const MatrixSpectrum& s = matrices[m];
    const auto at = static_cast<size_t>(ranks[m]);
    if (at >= s.values.size() || s.values[at] == 0) return;
    const double square = s.values[at] * s.values[at];
    queue.emplace(square / static_cast<double>(s.rows + s.columns), -static_cast<int64_t>(m));
  };
  for (size_t m = 0; m < matrices.size(); ++m) offer(m);
  while (!queue.empty()) {
    const auto m = static_cast<size_t>(-std::get<1>(queue.top()));
    const double value = matrices[m].values[static_cast<size_t>(ranks[m])];
    queue.pop();
    if (!wants(matrices[m].rows + matrices[m].columns, value * value)) continue;
    ++ranks[m];
    offer(m);
  }
  return ranks;
}

double all_squares(std::span<const MatrixSpectrum> matrices) {
  double sum = 0;
  for (const MatrixSpectrum& s : matrices) sum += s.squares;
  return sum;
}

}  // namespace

std::vector<int64_t> ranks_for_size(std::span<const MatrixSpectrum> matrices, int64_t uniform) {
  int64_t left = 0;
  for (const MatrixSpectrum& s : matrices)
    left += std::min({uniform, s.rows, s.columns}) * (s.rows + s.columns);
  return take(matrices, [&](int64_t numbers, double) {
    if (numbers > left) return false;  // a smaller matrix may still fit
    left -= numbers;
    return true;
  });
}

std::optional<std::vector<int64_t>> ranks_for_error(std::span<const MatrixSpectrum> matrices,
                                                    double error) {
  const double most = error * error * all_squares(matrices);
  double left = all_squares(matrices);
  std::vector<int64_t> ranks = take(matrices, [&](int64_t, double square) {
    if (left <= most) return false;
    left -= square;
    return true;
  });
  if (left > most) return std::nullopt;
  return ranks;
}

std::optional<int64_t> rank_for_error(std::span<const MatrixSpectrum> matrices, double error) {
  const double most = error * error * all_squares(matrices);
  double left = all_squares(matrices);
  size_t rank = 0;
  for (bool more = true; left > most && more; ++rank) {
    more = false;
    for (const MatrixSpectrum& s : matrices) {
      if (rank >= s.values.size()) continue;
      left -= s.values[rank] * s.values[rank];
      more = true;
    }
  }
  if (left > most) return std::nullopt;
  return static_cast<int64_t>(rank);
}

}  // namespace lewis
