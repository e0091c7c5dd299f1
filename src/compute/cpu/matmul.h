// Linear layers in float32 through oneDNN. The caller's threads compute them in pieces: fixed tiles
// of rows times fixed panels of output columns, each piece on one thread. A row's result depends
// on that row and the weight alone, never on the other rows of the call.
#pragma once

#include <dnnl.hpp>
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "compute/backend.h"
#include "compute/float_buffer.h"

namespace lewis {

// Panels of output columns, each in oneDNN's own layout.
struct PanelWeight final : PackedWeight {
  struct Panel {
    int64_t first = 0, columns = 0;
    dnnl::memory weights;  // [in, columns]
  };
  std::vector<Panel> panels;
  bool any_row_count = false;  // a row's bits do not depend on the number of rows (see cut_rows)
};

class Matmul {
 public:
  Matmul();
  std::unique_ptr<PanelWeight> pack(DType dtype, const std::byte* weight, int64_t out, int64_t in,
                                    Threads& threads);
  // x is [rows, in]. Only one thread may call at a time.
  void multiply(std::span<const LinearCall> calls, const float* x, int64_t rows, Threads& threads);

 private:
  struct Primitive {
    dnnl::matmul::primitive_desc desc;
    dnnl::matmul run;
  };
  using Key = std::tuple<int64_t, int64_t, int64_t>;  // rows, columns, in

  // The product of some rows with one panel.
  struct Product {
    const PanelWeight::Panel* panel = nullptr;
    const Primitive* primitive = nullptr;
  };
  struct Piece {
    const LinearCall* call;
    Product values, gate;
    int64_t first_row, rows;
  };

  dnnl::matmul::primitive_desc describe(int64_t rows, const dnnl::memory::desc& weights) const;
  void pack_panel(DType dtype, const std::byte* weight, int64_t in, PanelWeight::Panel& panel);
  const Primitive& primitive(int64_t rows, const PanelWeight& weight,
                             const PanelWeight::Panel& panel);
  std::vector<Piece> cut(const LinearCall& call, int64_t rows);
  static void run_product(const Product& product, std::span<const float> bias, const float* x,
                          int64_t rows, float* result);
  static void run_piece(const Piece& piece, const float* x);
  // `rows` is a multiple of 16 where a weight needs that.
  void multiply_tiles(std::span<const LinearCall> calls, const float* x, int64_t rows,
                      Threads& threads);

  dnnl::engine engine_;
  std::map<Key, Primitive> primitives_;
};

// c[m, n] = a[m, k] * b (+ c if accumulate), row-major with row strides lda, ldb, ldc, on the
// calling thread. b is [k, n], or [n, k] if transpose_b; a is [m, k], or [k, m] if transpose_a.
struct GemmShape {
  int64_t m = 0, n = 0, k = 0, lda = 0, ldb = 0, ldc = 0;
  bool transpose_b = false, accumulate = false, transpose_a = false;
};
void gemm(const GemmShape& shape, const float* a, const float* b, float* c);

}  // namespace lewis
