#include "compute/cpu/matmul.h"

#include <omp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/threads.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/linear_call.h"
#include "compute/float_buffer.h"

namespace lewis {
namespace {

using dnnl::memory;

// The rows and columns of one piece of work. The inputs of its rows stay in a core's second cache,
// and its columns are a few megabytes of weights at most. A piece with all columns of its weight
// writes the result directly; other pieces go through a buffer.
int64_t row_tile(int64_t in) { return in <= 1024 ? 256 : 128; }
constexpr int64_t kGatedRowTile = 128;
int64_t panel_columns(int64_t in) {
  if (in <= 1024) return 2048;
  return in <= 2048 ? 640 : in <= 4096 ? 256 : 128;
}

// While an object of this class lives, oneDNN runs on the calling thread only.
class OneOmpThread {
 public:
  OneOmpThread() { omp_set_num_threads(1); }
  ~OneOmpThread() { omp_set_num_threads(before_); }
  OneOmpThread(const OneOmpThread&) = delete;
  OneOmpThread& operator=(const OneOmpThread&) = delete;

 private:
  int before_ = omp_get_max_threads();
};

// oneDNN writes to a null pointer where it finds no memory for the code that it generates. Where
// the addresses of this process are limited, this makes sure of some before.
void need_room_for_code() {
  static const bool limited = [] {
    rlimit limit = {};
    return getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  }();
  if (!limited) return;
  constexpr size_t kRoom = size_t{16} << 20;
  void* room = mmap(nullptr, kRoom, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) throw resource_error("oneDNN: out of memory");
  munmap(room, kRoom);
}

// Calls f with oneDNN on one thread and turns oneDNN's exceptions into Error (kFailed).
template <typename F>
decltype(auto) with_onednn(F&& f) {
  need_room_for_code();
  const OneOmpThread one_thread;
  try {
    return f();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw resource_error("oneDNN: out of memory: {}", e.what());
    throw failed_error("oneDNN: {} (status {})", e.what(), static_cast<int>(e.status));
  }
}

dnnl::engine cpu_engine() {
  return with_onednn([] { return dnnl::engine(dnnl::engine::kind::cpu, 0); });
}

memory::desc matrix(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                    memory::data_type type) {
  return {{rows, columns}, type, memory::dims{row_stride, column_stride}};
}

// Cuts columns into equal panels of about panel_columns, a multiple of 64. Their number is even, so
// that a few rows (generation) still keep two, four, ... threads busy.
std::vector<PanelWeight::Panel> cut_columns(int64_t out, int64_t in) {
  const int64_t most = panel_columns(in);
  const int64_t count = out <= most ? 1 : (out + 2 * most - 1) / (2 * most) * 2;
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
// Cuts rows into tiles of `size`, then of 64 rows, then the rest. oneDNN's blocked (AVX-512)
// multiplication adds in the same order for any number of rows in float32; its other ones do so for
// 256, 128, 64 and 16 rows.
constexpr int64_t kRowStep = 16;
std::vector<RowTile> cut_rows(int64_t rows, int64_t tile, bool any_row_count) {
  std::vector<RowTile> tiles;
  int64_t first = 0;
  for (const int64_t size : {tile, int64_t{64}, any_row_count ? rows % 64 : kRowStep}) {
    for (; size > 0 && rows - first >= size; first += size) tiles.push_back({first, size});
  }
  return tiles;
}

const PanelWeight& panels_of(const PackedWeight& weight) {
  return dynamic_cast<const PanelWeight&>(weight);
}

bool any_row_count(const LinearCall& call) {
  return panels_of(call.weight).any_row_count &&
         (!call.gate || panels_of(call.gate->weight).any_row_count);
}

// A gated piece has two results, and both must stay in the second cache.
int64_t row_tile(const LinearCall& call) {
  return call.gate ? kGatedRowTile : row_tile(call.weight.in);
}

}  // namespace

Matmul::Matmul() : engine_(cpu_engine()) {}

// Describes a multiplication by weights [in, columns] into a dense [rows, columns]; oneDNN's fast
// multiplication supports no other result.
dnnl::matmul::primitive_desc Matmul::describe(int64_t rows, const memory::desc& weights) const {
  dnnl::primitive_attr attributes;  // with the caller's scratchpad, primitives are thread-safe
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const int64_t in = weights.dims()[0], columns = weights.dims()[1];
  constexpr auto kFloat = memory::data_type::f32;
  return {{matrix(rows, in, in, 1, kFloat), weights, matrix(rows, columns, columns, 1, kFloat)},
          attributes,
          engine_};
}

namespace {

// y = x * weights, on the calling thread.
void execute(const dnnl::matmul::primitive_desc& desc, const dnnl::matmul& primitive,
             const memory& weights, const float* x, float* y) {
  with_onednn([&] {
    const dnnl::engine engine = desc.get_engine();
    dnnl::stream stream(engine);
    thread_local FloatBuffer scratch;
    const auto bytes = static_cast<int64_t>(desc.scratchpad_desc().get_size());
    primitive.execute(stream,
                      {{DNNL_ARG_SRC, memory(desc.src_desc(), engine, const_cast<float*>(x))},
                       {DNNL_ARG_WEIGHTS, weights},
                       {DNNL_ARG_DST, memory(desc.dst_desc(), engine, y)},
                       {DNNL_ARG_SCRATCHPAD,
                        memory(desc.scratchpad_desc(), engine, scratch.get(bytes / 4 + 1))}});
    stream.wait();
  });
}

}  // namespace

std::unique_ptr<PanelWeight> Matmul::pack(DType dtype, const std::byte* weight, int64_t out,
                                          int64_t in, Threads& threads) {
  auto packed = std::make_unique<PanelWeight>();
  packed->out = out;
  packed->in = in;
  packed->panels = cut_columns(out, in);
  packed->any_row_count = true;
  for (auto& panel : packed->panels) {
    with_onednn([&] {
      const memory::desc any({in, panel.columns}, memory::data_type::f32, memory::format_tag::any);
      const auto desc = describe(row_tile(in), any);
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

namespace {

// oneDNN's way to turn one layout into another; empty where it has none, or only its general one,
// which takes 20 times as long as to widen the values first.
std::optional<dnnl::reorder> fast_reorder(const memory& from, const memory& to) {
  try {
    const dnnl::reorder::primitive_desc desc(from, to);
    if (std::string_view(desc.impl_info_str()).starts_with("jit")) return dnnl::reorder(desc);
  } catch (const dnnl::error& e) {
    if (e.status != dnnl_unimplemented) throw;
  }
  return {};
}

}  // namespace

// `weight` is the panel's rows [columns, in] as they are stored.
void Matmul::pack_panel(DType dtype, const std::byte* weight, int64_t in,
                        PanelWeight::Panel& panel) {
  with_onednn([&] {
    const auto as_stored = [&](memory::data_type type, const void* values) {
      return memory(matrix(in, panel.columns, 1, in, type), engine_, const_cast<void*>(values));
    };
    dnnl::stream stream(engine_);
    if (dtype == DType::kBF16) {
      memory from = as_stored(memory::data_type::bf16, weight);
      if (const auto reorder = fast_reorder(from, panel.weights)) {
        reorder->execute(stream, from, panel.weights);
        stream.wait();
        return;
      }
    }
    FloatBuffer widened;
    const void* source = weight;
    if (dtype != DType::kF32) {
      float* floats = widened.get(panel.columns * in);
      widen(dtype, weight, {floats, static_cast<size_t>(panel.columns * in)});
      source = floats;
    }
    memory from = as_stored(memory::data_type::f32, source);
    dnnl::reorder(from, panel.weights).execute(stream, from, panel.weights);
    stream.wait();
  });
}

const Matmul::Primitive& Matmul::primitive(int64_t rows, const PanelWeight& weight,
                                           const PanelWeight::Panel& panel) {
  const Key key{rows, panel.columns, weight.in};
  const auto found = primitives_.find(key);
  if (found != primitives_.end()) return found->second;
  return with_onednn([&]() -> const Primitive& {
    auto desc = describe(rows, panel.weights.get_desc());
    dnnl::matmul run(desc);
    return primitives_.emplace(key, Primitive{std::move(desc), std::move(run)}).first->second;
  });
}

void Matmul::multiply(std::span<const LinearCall> calls, const float* x, int64_t rows,
                      Threads& threads) {
  const int64_t whole =
      std::ranges::all_of(calls, any_row_count) ? rows : rows / kRowStep * kRowStep;
  multiply_tiles(calls, x, whole, threads);
  if (whole == rows) return;
  const int64_t in = calls[0].weight.in;
  FloatBuffer padded_x;  // the last rows, padded with zeros
  float* last_x = padded_x.get(kRowStep * in);
  std::fill(std::copy(x + whole * in, x + rows * in, last_x), last_x + kRowStep * in, 0.0f);
  std::vector<FloatBuffer> padded_y(calls.size());
  std::vector<LinearCall> last;
  for (size_t i = 0; i < calls.size(); ++i) {
    const int64_t out = calls[i].weight.out;
    last.push_back(
        {calls[i].weight, calls[i].bias, padded_y[i].get(kRowStep * out), calls[i].gate});
  }
  multiply_tiles(last, last_x, kRowStep, threads);
  for (size_t i = 0; i < calls.size(); ++i) {
    const int64_t out = calls[i].weight.out;
    std::copy(last[i].y, last[i].y + (rows - whole) * out, calls[i].y + whole * out);
  }
}

// result[rows, columns] = x * the panel's weights (+ bias), dense.
void Matmul::run_product(const Product& product, std::span<const float> bias, const float* x,
                         int64_t rows, float* result) {
  const auto& [panel, primitive] = product;
  execute(primitive->desc, primitive->run, panel->weights, x, result);
  add_bias(bias, panel->first, panel->columns, result, rows, panel->columns);
}

// x is [rows, in] of the whole call.
void Matmul::run_piece(const Piece& piece, const float* x) {
  const auto& [call, values, gate, first_row, rows] = piece;
  const float* inputs = x + first_row * call->weight.in;
  const int64_t out = call->weight.out, columns = values.panel->columns;
  float* y = call->y + first_row * out + values.panel->first;  // [rows, columns], stride `out`
  thread_local FloatBuffer dense, gated;
  float* result = columns == out ? y : dense.get(rows * columns);
  if (!call->gate) {
    run_product(values, call->bias, inputs, rows, result);
    if (result == y) return;
    for (int64_t r = 0; r < rows; ++r) std::copy_n(result + r * columns, columns, y + r * out);
    return;
  }
  run_product(gate, call->gate->bias, inputs, rows, result);
  float* factors = gated.get(rows * columns);
  run_product(values, call->bias, inputs, rows, factors);
  const auto activate = best_kernels().activate[static_cast<size_t>(call->gate->activation)];
  for (int64_t r = 0; r < rows; ++r)
    activate(result + r * columns, factors + r * columns, columns, y + r * out);
}

// Lists every panel of a call for every tile of rows.
std::vector<Matmul::Piece> Matmul::cut(const LinearCall& call, int64_t rows) {
  std::vector<Piece> pieces;
  const PanelWeight& weight = panels_of(call.weight);
  for (const RowTile& tile : cut_rows(rows, row_tile(call), any_row_count(call))) {
    for (size_t i = 0; i < weight.panels.size(); ++i) {
      const auto product_of = [&](const PanelWeight& w) {
        return Product{&w.panels[i], &primitive(tile.rows, w, w.panels[i])};
      };
      pieces.push_back({&call, product_of(weight),
                        call.gate ? product_of(panels_of(call.gate->weight)) : Product{},
                        tile.first, tile.rows});
    }
  }
  return pieces;
}

void Matmul::multiply_tiles(std::span<const LinearCall> calls, const float* x, int64_t rows,
                            Threads& threads) {
  if (rows == 0) return;
  std::vector<Piece> pieces;
  for (const LinearCall& call : calls)
    std::ranges::copy(cut(call, rows), std::back_inserter(pieces));
  for_all(pieces.size(), worth_threads(calls, rows), threads,
          [&](size_t i) { run_piece(pieces[i], x); });
}

void gemm(const GemmShape& s, const float* a, const float* b, float* c) {
  with_onednn([&] {
    const dnnl_status_t status =
        dnnl_sgemm(s.transpose_a ? 'T' : 'N', s.transpose_b ? 'T' : 'N', s.m, s.n, s.k, 1.0f, a,
                   s.lda, b, s.ldb, s.accumulate ? 1.0f : 0.0f, c, s.ldc);
    dnnl::error::wrap_c_api(status, "matrix multiplication failed");
  });
}

}  // namespace lewis
