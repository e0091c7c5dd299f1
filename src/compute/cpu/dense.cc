#include "compute/dense.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "base/error.h"
#include "compute/cpu/matmul.h"
#include "compute/cpu/tile_kernels.h"
#include "compute/float_buffer.h"

namespace lewis {

const TileKernels& best_tile_kernels() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return avx512_tile_kernels();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_tile_kernels();
#endif
  return baseline_tile_kernels();
}

namespace {

constexpr int64_t kTile = 512;   // rows and columns of a product's tile
constexpr int64_t kDepth = 256;  // rows that are summed in float32

int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

void check(bool fits, const char* what) {
  if (!fits) throw failed_error("{}: the matrices do not fit each other", what);
}

// Adds the product in `tile` [rows, columns] to c.
void add_tile(const float* tile, int64_t rows, int64_t columns, double* c, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) c[i * stride + j] += tile[i * columns + j];
  }
}

// Computes the part [rows, columns] of c that begins at (i, j): a sum over all rows of a and b.
void product_tile(const FloatMatrix& a, const FloatMatrix& b, std::span<const float> weights,
                  int64_t i, int64_t j, double* c, int64_t stride) {
  const int64_t m = std::min(kTile, a.columns - i), n = std::min(kTile, b.columns - j);
  thread_local FloatBuffer scaled_room, tile_room;
  float *scaled = scaled_room.get(kDepth * kTile), *tile = tile_room.get(kTile * kTile);
  for (int64_t first = 0; first < a.rows; first += kDepth) {
    const int64_t rows = std::min(kDepth, a.rows - first);
    const float* left = a.data + first * a.stride + i;
    int64_t left_stride = a.stride;
    if (!weights.empty()) {
      for (int64_t r = 0; r < rows; ++r) {
        const float w = weights[static_cast<size_t>(first + r)];
        for (int64_t k = 0; k < m; ++k) scaled[r * m + k] = w * left[r * a.stride + k];
      }
      left = scaled;
      left_stride = m;
    }
    gemm({.m = m,
          .n = n,
          .k = rows,
          .lda = left_stride,
          .ldb = b.stride,
          .ldc = n,
          .transpose_a = true},
         left, b.data + first * b.stride + j, tile);
    add_tile(tile, m, n, c + i * stride + j, stride);
  }
}

}  // namespace

void add_products(const FloatMatrix& a, const FloatMatrix& b, std::span<const float> weights,
                  std::span<double> c, Threads& threads) {
  check(a.rows == b.rows && static_cast<int64_t>(c.size()) == a.columns * b.columns &&
            (weights.empty() || static_cast<int64_t>(weights.size()) == a.rows),
        "add_products");
  const int64_t down = pieces(a.columns, kTile), across = pieces(b.columns, kTile);
  threads.run(static_cast<size_t>(down * across), [&](size_t piece) {
    const auto p = static_cast<int64_t>(piece);
    product_tile(a, b, weights, p / across * kTile, p % across * kTile, c.data(), b.columns);
  });
}

namespace {

// Calls f(i, j) on all threads for every tile of the share with j <= i of a square matrix.
template <typename F>
void for_lower_tiles(int64_t n, int64_t tile, Threads& threads, const F& f, TileShare share = {}) {
  std::vector<std::pair<int64_t, int64_t>> tiles;
  size_t number = 0;
  for (int64_t i = 0; i < n; i += tile) {
    for (int64_t j = 0; j <= i; j += tile, ++number) {
      if (number % share.count == share.index) tiles.emplace_back(i, j);
    }
  }
  threads.run(tiles.size(), [&](size_t t) { f(tiles[t].first, tiles[t].second); });
}

}  // namespace

void add_gram(const FloatMatrix& x, std::span<const float> weights, std::span<double> gram,
              Threads& threads, TileShare share) {
  check(static_cast<int64_t>(gram.size()) == x.columns * x.columns, "add_gram");
  const auto compute = [&](int64_t i, int64_t j) {
    product_tile(x, x, weights, i, j, gram.data(), x.columns);
  };
  for_lower_tiles(x.columns, kTile, threads, compute, share);
}

namespace {

// Computes the part of c = a b^T [a.rows, b.rows] that begins at (i, j).
void row_product_tile(const FloatMatrix& a, const FloatMatrix& b, int64_t i, int64_t j,
                      std::span<double> c) {
  const int64_t m = std::min(kTile, a.rows - i), n = std::min(kTile, b.rows - j);
  thread_local FloatBuffer room;
  float* tile = room.get(kTile * kTile);
  double* part = c.data() + i * b.rows + j;
  for (int64_t r = 0; r < m; ++r) std::fill_n(part + r * b.rows, n, 0.0);
  for (int64_t first = 0; first < a.columns; first += kDepth) {
    gemm({.m = m,
          .n = n,
          .k = std::min(kDepth, a.columns - first),
          .lda = a.stride,
          .ldb = b.stride,
          .ldc = n,
          .transpose_b = true},
         a.data + i * a.stride + first, b.data + j * b.stride + first, tile);
    add_tile(tile, m, n, part, b.rows);
  }
}

}  // namespace

void row_products(const FloatMatrix& a, const FloatMatrix& b, std::span<double> c,
                  Threads& threads) {
  check(a.columns == b.columns && static_cast<int64_t>(c.size()) == a.rows * b.rows,
        "row_products");
  const int64_t across = pieces(b.rows, kTile);
  threads.run(static_cast<size_t>(pieces(a.rows, kTile) * across), [&](size_t piece) {
    const auto p = static_cast<int64_t>(piece);
    row_product_tile(a, b, p / across * kTile, p % across * kTile, c);
  });
}

void outer_products(const FloatMatrix& x, std::span<double> outer, Threads& threads,
                    TileShare share) {
  check(static_cast<int64_t>(outer.size()) == x.rows * x.rows, "outer_products");
  const auto compute = [&](int64_t i, int64_t j) { row_product_tile(x, x, i, j, outer); };
  for_lower_tiles(x.rows, kTile, threads, compute, share);
}

namespace {

constexpr int64_t kStep = 192;  // rows and columns of a tile of doubles

}  // namespace

// Works tile by tile, right-looking: it factors a tile on the diagonal, divides the tiles below it,
// and subtracts their products from the rest.
bool cholesky(std::span<double> a, int64_t n, Threads& threads) {
  check(static_cast<int64_t>(a.size()) == n * n, "cholesky");
  const TileKernels& kernels = best_tile_kernels();
  const auto tile = [&](int64_t i, int64_t j) {
    return Tile{a.data() + i * n + j, std::min(kStep, n - i), std::min(kStep, n - j), n};
  };
  for (int64_t k = 0; k < n; k += kStep) {
    if (!kernels.factor(tile(k, k))) return false;
    const int64_t rest = k + kStep;
    if (rest >= n) break;
    threads.run(static_cast<size_t>(pieces(n - rest, kStep)), [&](size_t i) {
      kernels.divide_right(tile(k, k), tile(rest + static_cast<int64_t>(i) * kStep, k));
    });
    for_lower_tiles(n - rest, kStep, threads, [&](int64_t i, int64_t j) {
      kernels.subtract_transposed(tile(rest + i, k), tile(rest + j, k), tile(rest + i, rest + j));
    });
  }
  return true;
}

void cholesky_solve(std::span<const double> factor, int64_t n, std::span<double> b, int64_t columns,
                    Threads& threads) {
  check(
      static_cast<int64_t>(factor.size()) == n * n && static_cast<int64_t>(b.size()) == n * columns,
      "cholesky_solve");
  const TileKernels& kernels = best_tile_kernels();
  constexpr int64_t kColumns = 128;  // columns of b per thread
  const auto left = [&](int64_t i, int64_t j, int64_t rows, int64_t width) {
    return Tile{const_cast<double*>(factor.data()) + i * n + j, rows, width, n};
  };
  threads.run(static_cast<size_t>(pieces(columns, kColumns)), [&](size_t piece) {
    const int64_t first = static_cast<int64_t>(piece) * kColumns;
    const int64_t width = std::min(kColumns, columns - first);
    const auto right = [&](int64_t i, int64_t rows) {
      return Tile{b.data() + i * columns + first, rows, width, columns};
    };
    for (int64_t i = 0; i < n; i += kStep) {
      const int64_t rows = std::min(kStep, n - i);
      if (i > 0) kernels.subtract(left(i, 0, rows, i), right(0, i), right(i, rows));
      kernels.divide_left(left(i, i, rows, rows), right(i, rows));
    }
    for (int64_t i = (n - 1) / kStep * kStep; i >= 0; i -= kStep) {
      const int64_t rows = std::min(kStep, n - i), below = n - i - rows;
      if (below > 0) {
        kernels.subtract_left(left(i + rows, i, below, rows), right(i + rows, below),
                              right(i, rows));
      }
      kernels.divide_left_transposed(left(i, i, rows, rows), right(i, rows));
    }
  });
}

}  // namespace lewis
