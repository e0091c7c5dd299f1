// Values of one kind (inputs, outputs, hidden states) in the three streams that go through a block.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "base/page_buffer.h"
#include "base/threads.h"
#include "compute/dense.h"

namespace lewis {

// Leaves values uninitialized: pages are first touched by the threads that fill them. Large
// matrices have pages of their own, since those of one block are freed and allocated all the time:
// what is freed is not there any more, and huge pages make fresh ones cheap.
template <typename T>
struct UninitializedPages : std::allocator<T> {
  static constexpr size_t kOwnPages = size_t{2} << 20;  // bytes from which on a matrix has its own

  template <typename U>
  struct rebind {
    using other = UninitializedPages<U>;
  };
  T* allocate(size_t n) {
    if (n * sizeof(T) < kOwnPages) return std::allocator<T>::allocate(n);
    return reinterpret_cast<T*>(map_pages(n * sizeof(T)));
  }
  void deallocate(T* data, size_t n) {
    if (n * sizeof(T) < kOwnPages) return std::allocator<T>::deallocate(data, n);
    unmap_pages(reinterpret_cast<std::byte*>(data), n * sizeof(T));
  }
  template <typename U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;
  }
  using std::allocator<T>::allocator;
};

// [rows, columns], one row per token. The values are not zeroed.
struct Matrix {
  Matrix() = default;
  Matrix(int64_t row_count, int64_t column_count)
      : values(static_cast<size_t>(row_count * column_count)),
        rows(row_count),
        columns(column_count) {}
  float* row(int64_t r) { return values.data() + r * columns; }
  const float* row(int64_t r) const { return values.data() + r * columns; }
  FloatMatrix first_rows(int64_t count) const { return {values.data(), count, columns, columns}; }

  std::vector<float, UninitializedPages<float>> values;
  int64_t rows = 0, columns = 0;
};

// One quantity in three streams: the experts on their texts, the merged model, and the merged
// model as it would be with this block left at the prior, on what is held out.
enum StreamIndex { kExperts, kMerged, kPrior };
using Streams = std::array<Matrix, 3>;

// Matrices with the rows of x.
inline Streams like(const Streams& x, int64_t columns) {
  return {Matrix(x[kExperts].rows, columns), Matrix(x[kMerged].rows, columns),
          Matrix(x[kPrior].rows, columns)};
}

// f(first row, end) over a matrix's rows, some hundred at a time, on all threads.
template <typename F>
void for_rows(int64_t rows, Threads& threads, const F& f) {
  constexpr int64_t kRows = 256;
  threads.run(static_cast<size_t>((rows + kRows - 1) / kRows), [&](size_t piece) {
    const int64_t first = static_cast<int64_t>(piece) * kRows;
    f(first, std::min(rows, first + kRows));
  });
}

// Copies a panel into its columns of y, all streams.
inline void put(const Streams& panel, int64_t first, Streams& y, Threads& threads) {
  for (const size_t s : {kExperts, kMerged, kPrior}) {
    for_rows(panel[s].rows, threads, [&](int64_t row, int64_t end) {
      for (; row < end; ++row)
        std::copy_n(panel[s].row(row), panel[s].columns, y[s].row(row) + first);
    });
  }
}

// y += x, all streams.
inline void add(const Streams& x, Streams& y, Threads& threads) {
  for (const size_t s : {kExperts, kMerged, kPrior}) {
    for_rows(y[s].rows, threads, [&](int64_t row, int64_t end) {
      const float* from = x[s].row(row);
      float* to = y[s].row(row);
      for (int64_t i = 0; i < (end - row) * y[s].columns; ++i) to[i] += from[i];
    });
  }
}

}  // namespace lewis
