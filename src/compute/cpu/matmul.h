// Matrix multiplication through oneDNN, in pieces that the caller's threads compute: fixed tiles
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

namespace lewis {

// Panels of output columns, each in oneDNN's own layout.
struct PanelWeight final : PackedWeight {
  struct Panel {
    int64_t first = 0, columns = 0;
    dnnl::memory weights;  // [in, columns], widened to float
  };
  std::vector<Panel> panels;
  bool any_row_count = false;  // rows come out the same whatever their number (see cut_rows)
};

class Matmul {
 public:
  Matmul();
  std::unique_ptr<PanelWeight> pack(DType dtype, const std::byte* weight, int64_t out, int64_t in,
                                    Threads& threads);
  // y[rows, out] = x[rows, in] * weight^T (+ bias).
  void multiply(const PanelWeight& weight, std::span<const float> bias, const float* x,
                int64_t rows, float* y, Threads& threads);

 private:
  struct Primitive {
    dnnl::matmul::primitive_desc desc;
    dnnl::matmul run;
  };
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t>;  // rows, columns, in, out

  void pack_panel(DType dtype, const std::byte* weight, int64_t in, PanelWeight::Panel& panel);
  const Primitive& primitive(int64_t rows, const PanelWeight& weight,
                             const PanelWeight::Panel& panel);
  static void execute(const Primitive& primitive, const dnnl::memory& weights, const float* x,
                      float* y);
  // rows: a multiple of 16 where the weight needs that.
  void multiply_tiles(const PanelWeight& weight, std::span<const float> bias, const float* x,
                      int64_t rows, float* y, Threads& threads);

  dnnl::engine engine_;
  bool reorders_bf16_ = false;  // this machine's oneDNN reads bfloat16
  std::map<Key, Primitive> primitives_;
};

// c[m, n] = a[m, k] * b (+ c if accumulate), row-major with row strides lda, ldb, ldc, on the
// calling thread; b is [k, n], or [n, k] if transpose_b.
struct GemmShape {
  int64_t m = 0, n = 0, k = 0, lda = 0, ldb = 0, ldc = 0;
  bool transpose_b = false, accumulate = false;
};
void gemm(const GemmShape& shape, const float* a, const float* b, float* c);

}  // namespace lewis
