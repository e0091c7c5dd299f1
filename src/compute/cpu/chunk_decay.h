// How much of a chunk's row s is left at its row t, for recurrences whose state fades.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace lewis {

// Rows of a chunk: the products with the state grow with the state, those among the rows with the
// chunk.
constexpr int64_t kChunkRows = 64;
// Chunks with fewer rows are computed row by row.
constexpr int64_t kFewChunkRows = 8;

// Takes `rows` rows in order, in chunks: by_chunk(first, rows), or by_rows(first, rows) where they
// are few.
template <typename ByChunk, typename ByRows>
void in_chunks(int64_t rows, const ByChunk& by_chunk, const ByRows& by_rows) {
  for (int64_t first = 0; first < rows; first += kChunkRows) {
    const int64_t some = std::min(kChunkRows, rows - first);
    some < kFewChunkRows ? by_rows(first, some) : by_chunk(first, some);
  }
}

// The fading of the rows of one chunk. The logs of the factors are summed in double.
class ChunkDecay {
 public:
  // logs: of each row's factor, 0 or less, `stride` apart; `scale` multiplies them.
  ChunkDecay(const float* logs, int64_t stride, float scale, int64_t rows);
  // e^G_t: what is left of the state before the chunk at row t.
  float of_state(int64_t t) const { return state_[static_cast<size_t>(t)]; }
  float of_state() const { return of_state(rows_ - 1); }
  // factors[s] = e^(G_t - G_s) for s <= t.
  void of_rows(int64_t t, float* factors) const;

 private:
  int64_t rows_;
  std::array<double, kChunkRows> sums_;
  std::array<float, kChunkRows> state_;
};

}  // namespace lewis
