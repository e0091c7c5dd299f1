// Operations on one tile of a matrix of doubles, row-major with a row stride, on the calling
// thread. They are Eigen's, compiled for several instruction sets (CMakeLists.txt); the program
// chooses the best one of the machine at run time.
#pragma once

#include <cstdint>

namespace lewis {

// A view of one tile of a larger matrix.
struct Tile {
  double* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;
};

struct TileKernels {
  bool (*factor)(const Tile& a);  // a = L of a = L L^T, lower triangle; false if not positive
  void (*divide_right)(const Tile& l, const Tile& a);                        // a = a L^-T
  void (*divide_left)(const Tile& l, const Tile& b);                         // b = L^-1 b
  void (*divide_left_transposed)(const Tile& l, const Tile& b);              // b = L^-T b
  void (*subtract)(const Tile& a, const Tile& b, const Tile& c);             // c -= a b
  void (*subtract_transposed)(const Tile& a, const Tile& b, const Tile& c);  // c -= a b^T
  void (*subtract_left)(const Tile& a, const Tile& b, const Tile& c);        // c -= a^T b
};

const TileKernels& best_tile_kernels();

// The kernels of the three files; the last two exist on x86-64 only.
const TileKernels& baseline_tile_kernels();
const TileKernels& avx2_tile_kernels();
const TileKernels& avx512_tile_kernels();

}  // namespace lewis
