#include "compute/cpu/matmul.h"

#include <omp.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/threads.h"
#include "compute/cpu/kernels.h"
#include "compute/float_buffer.h"

namespace lewis {
namespace {

using dnnl::memory;

constexpr int64_t kRowTile = 256;
constexpr int64_t kPanelColumns = 512;
// Below this, waking another thread costs more than it saves.
constexpr double kParallelFlops = 6e6;

// oneDNN runs on the calling thread while one of these lives: parallelism is ours.
class OneOmpThread {
 public:
  OneOmpThread() { omp_set_num_threads(1); }
  ~OneOmpThread() { omp_set_num_threads(before_); }
  OneOmpThread(const OneOmpThread&) = delete;
  OneOmpThread& operator=(const OneOmpThread&) = delete;

 private:
  int before_ = omp_get_max_threads();
};

// Calls f with oneDNN on one thread and its exceptions as Error.
template <typename F>
decltype(auto) with_onednn(F&& f) {
  const OneOmpThread one_thread;
  try {
    return f();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw resource_error("oneDNN: out of memory: {}", e.what());
    throw failed_error("oneDNN: {} (status {})", e.what(), static_cast<int>(e.status));
  }
}

memory::desc matrix(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                    memory::data_type type = memory::data_type::f32) {
  return {{rows, columns}, type, memory::dims{row_stride, column_stride}};
}

dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, int64_t rows,
                                      const memory::desc& weights, int64_t out) {
  dnnl::primitive_attr attributes;  // a scratchpad of the caller's makes primitives thread-safe
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const int64_t in = weights.dims()[0], columns = weights.dims()[1];
  return {{matrix(rows, in, in, 1), weights, matrix(rows, columns, out, 1)}, attributes, engine};
}

// Even panels of about kPanelColumns, a multiple of 64; an even number of them, so that few rows
// (generation) still keep two, four, ... threads busy.
std::vector<PanelWeight::Panel> cut_columns(int64_t out) {
  const int64_t count =
      out <= kPanelColumns ? 1 : (out + 2 * kPanelColumns - 1) / (2 * kPanelColumns) * 2;
  const int64_t columns = ((out + count - 1) / count + 63) / 64 * 64;
  std::vector<PanelWeight::Panel> panels;
  for (int64_t first = 0; first < out; first += columns) {
    panels.push_back({first, std::min(columns, out - first), {}});
  }
  return panels;
}

struct RowTile {
  int64_t first = 0, rows = 0;
};
// Tiles of 256, then 64 rows, then the rest: oneDNN's blocked (AVX-512) multiplication adds in the
// same order for any number of rows. Its older one does so for 256, 64 and 16 rows.
constexpr int64_t kRowStep = 16;
std::vector<RowTile> cut_rows(int64_t rows, bool any_row_count) {
  std::vector<RowTile> tiles;
  int64_t first = 0;
  for (const int64_t size : {kRowTile, int64_t{64}, any_row_count ? rows % 64 : kRowStep}) {
    for (; size > 0 && rows - first >= size; first += size) tiles.push_back({first, size});
  }
  return tiles;
}

}  // namespace

Matmul::Matmul() : engine_(with_onednn([] { return dnnl::engine(dnnl::engine::kind::cpu, 0); })) {
  try {
    const auto from = matrix(16, 16, 16, 1, memory::data_type::bf16);
    dnnl::reorder::primitive_desc(engine_, from, engine_, matrix(16, 16, 16, 1));
    reorders_bf16_ = true;
  } catch (const dnnl::error&) {  // an older processor: pack_panel widens first
  }
}

// On the calling thread.
void Matmul::execute(const Primitive& primitive, const memory& weights, const float* x, float* y) {
  with_onednn([&] {
    const auto& desc = primitive.desc;
    const dnnl::engine engine = weights.get_engine();
    dnnl::stream stream(engine);
    primitive.run.execute(stream,
                          {{DNNL_ARG_SRC, memory(desc.src_desc(), engine, const_cast<float*>(x))},
                           {DNNL_ARG_WEIGHTS, weights},
                           {DNNL_ARG_DST, memory(desc.dst_desc(), engine, y)},
                           {DNNL_ARG_SCRATCHPAD, memory(desc.scratchpad_desc(), engine)}});
    stream.wait();
  });
}

std::unique_ptr<PanelWeight> Matmul::pack(DType dtype, const std::byte* weight, int64_t out,
                                          int64_t in, Threads& threads) {
  auto packed = std::make_unique<PanelWeight>();
  packed->out = out;
  packed->in = in;
  packed->panels = cut_columns(out);
  packed->any_row_count = true;
  for (auto& panel : packed->panels) {
    with_onednn([&] {
      const memory::desc any({in, panel.columns}, memory::data_type::f32, memory::format_tag::any);
      const auto desc = describe(engine_, kRowTile, any, out);
      panel.weights = memory(desc.weights_desc(), engine_);
      packed->any_row_count &= std::string_view(desc.impl_info_str()).starts_with("brg");
    });
  }
  threads.run(packed->panels.size(), [&](size_t i) {
    auto& panel = packed->panels[i];
    pack_panel(dtype, weight + static_cast<size_t>(panel.first * in) * dtype_size(dtype), in,
               panel);
  });
  return packed;
}

// weight: the panel's rows [columns, in] as stored.
void Matmul::pack_panel(DType dtype, const std::byte* weight, int64_t in,
                        PanelWeight::Panel& panel) {
  with_onednn([&] {
    const bool direct = dtype == DType::kF32 || (dtype == DType::kBF16 && reorders_bf16_);
    FloatBuffer widened;
    const void* source = weight;
    if (!direct) {
      float* floats = widened.get(panel.columns * in);
      widen(dtype, weight, {floats, static_cast<size_t>(panel.columns * in)});
      source = floats;
    }
    const auto type =
        direct && dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
    memory from(matrix(in, panel.columns, 1, in, type), engine_, const_cast<void*>(source));
    dnnl::stream stream(engine_);
    dnnl::reorder(from, panel.weights).execute(stream, from, panel.weights);
    stream.wait();
  });
}

const Matmul::Primitive& Matmul::primitive(int64_t rows, const PanelWeight& weight,
                                           const PanelWeight::Panel& panel) {
  const Key key{rows, panel.columns, weight.in, weight.out};
  const auto found = primitives_.find(key);
  if (found != primitives_.end()) return found->second;
  return with_onednn([&]() -> const Primitive& {
    auto desc = describe(engine_, rows, panel.weights.get_desc(), weight.out);
    dnnl::matmul run(desc);
    return primitives_.emplace(key, Primitive{std::move(desc), std::move(run)}).first->second;
  });
}

void Matmul::multiply(const PanelWeight& weight, std::span<const float> bias, const float* x,
                      int64_t rows, float* y, Threads& threads) {
  const int64_t whole = weight.any_row_count ? rows : rows / kRowStep * kRowStep;
  multiply_tiles(weight, bias, x, whole, y, threads);
  if (whole == rows) return;
  FloatBuffer padded_x, padded_y;  // the last rows, filled up with zeros
  float* last_x = padded_x.get(kRowStep * weight.in);
  float* last_y = padded_y.get(kRowStep * weight.out);
  std::fill(std::copy(x + whole * weight.in, x + rows * weight.in, last_x),
            last_x + kRowStep * weight.in, 0.0f);
  multiply_tiles(weight, bias, last_x, kRowStep, last_y, threads);
  std::copy(last_y, last_y + (rows - whole) * weight.out, y + whole * weight.out);
}

void Matmul::multiply_tiles(const PanelWeight& weight, std::span<const float> bias, const float* x,
                            int64_t rows, float* y, Threads& threads) {
  struct Piece {
    RowTile tile;
    const PanelWeight::Panel* panel;
    const Primitive* primitive;
  };
  std::vector<Piece> pieces;
  for (const RowTile& tile : cut_rows(rows, weight.any_row_count)) {
    for (const auto& panel : weight.panels) {
      pieces.push_back({tile, &panel, &primitive(tile.rows, weight, panel)});
    }
  }
  const Kernels& kernels = best_kernels();
  const auto run = [&](size_t i) {
    const auto& [tile, panel, primitive] = pieces[i];
    float* piece_y = y + tile.first * weight.out + panel->first;  // [tile.rows, panel->columns]
    execute(*primitive, panel->weights, x + tile.first * weight.in, piece_y);
    if (bias.empty()) return;
    for (int64_t r = 0; r < tile.rows; ++r) {
      kernels.add(piece_y + r * weight.out, bias.data() + panel->first, panel->columns);
    }
  };
  const double flops =
      2.0 * static_cast<double>(weight.out * weight.in) * static_cast<double>(rows);
  if (flops < kParallelFlops) {
    for (size_t i = 0; i < pieces.size(); ++i) run(i);
  } else {
    threads.run(pieces.size(), run);
  }
}

void gemm(const GemmShape& s, const float* a, const float* b, float* c) {
  with_onednn([&] {
    const dnnl_status_t status = dnnl_sgemm('N', s.transpose_b ? 'T' : 'N', s.m, s.n, s.k, 1.0f, a,
                                            s.lda, b, s.ldb, s.accumulate ? 1.0f : 0.0f, c, s.ldc);
    dnnl::error::wrap_c_api(status, "matrix multiplication failed");
  });
}

}  // namespace lewis
