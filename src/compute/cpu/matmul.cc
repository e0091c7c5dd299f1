#include "compute/cpu/matmul.h"

#include <omp.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "base/error.h"
#include "base/threads.h"
#include "compute/cpu/bf16_kernels.h"
#include "compute/cpu/kernels.h"
#include "compute/float_buffer.h"

namespace lewis {
namespace {

using dnnl::memory;
using RowTile = Matmul::RowTile;

// Of one piece of work: rows whose inputs stay in a core's second cache, and columns up to a few
// megabytes of weights. A piece with all columns of its weight writes the result where it belongs;
// others go through a buffer.
int64_t row_tile(int64_t in) { return in <= 1024 ? 256 : 128; }
constexpr int64_t kGatedRowTile = 256;  // its two results stay in the second cache
int64_t panel_columns(int64_t in) {
  if (in <= 1024) return 640;
  return in <= 2048 ? 640 : in <= 4096 ? 256 : 128;
}
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

dnnl::engine cpu_engine() {
  return with_onednn([] { return dnnl::engine(dnnl::engine::kind::cpu, 0); });
}

memory::desc matrix(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                    memory::data_type type) {
  return {{rows, columns}, type, memory::dims{row_stride, column_stride}};
}

// Even panels of about panel_columns, a multiple of 64; an even number of them, so that few rows
// (generation) still keep two, four, ... threads busy.
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

// Tiles of `size`, then 64 rows, then the rest: oneDNN's blocked (AVX-512) multiplication adds in
// the same order for any number of rows in float32. Its others do so for 256, 128, 64 and 16 rows.
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

// x[values] as it is multiplied, in `room`.
const std::byte* round(const float* x, int64_t values, FloatBuffer& room) {
  auto* rounded = reinterpret_cast<uint16_t*>(room.get((values + 1) / 2));
  round_bf16(x, values, rounded);
  return reinterpret_cast<const std::byte*>(rounded);
}

}  // namespace

Matmul::Matmul(ComputeType type)
    : type_(type),
      stored_(type == ComputeType::kF32 ? memory::data_type::f32 : memory::data_type::bf16),
      engine_(cpu_engine()) {
  try {
    const auto from = matrix(16, 16, 16, 1, memory::data_type::bf16);
    dnnl::reorder::primitive_desc(engine_, from, engine_,
                                  matrix(16, 16, 16, 1, memory::data_type::f32));
    reorders_bf16_ = true;
    describe(16, matrix(16, 16, 16, 1, stored_));
  } catch (const dnnl::error&) {  // an older processor: pack_panel widens first
    if (type == ComputeType::kBF16) {
      throw usage_error("this processor does not multiply bfloat16; --compute f32 works");
    }
  }
}

// Of a multiplication by weights [in, columns] into a dense [rows, columns]: oneDNN's fast one
// knows no other.
dnnl::matmul::primitive_desc Matmul::describe(int64_t rows, const memory::desc& weights) const {
  dnnl::primitive_attr attributes;  // a scratchpad of the caller's makes primitives thread-safe
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const int64_t in = weights.dims()[0], columns = weights.dims()[1];
  return {{matrix(rows, in, in, 1, stored_), weights,
           matrix(rows, columns, columns, 1, memory::data_type::f32)},
          attributes,
          engine_};
}

namespace {

// On the calling thread: y = x * weights.
void execute(const dnnl::matmul::primitive_desc& desc, const dnnl::matmul& primitive,
             const memory& weights, const void* x, float* y) {
  with_onednn([&] {
    const dnnl::engine engine = desc.get_engine();
    dnnl::stream stream(engine);
    thread_local FloatBuffer scratch;
    const auto bytes = static_cast<int64_t>(desc.scratchpad_desc().get_size());
    primitive.execute(stream,
                      {{DNNL_ARG_SRC, memory(desc.src_desc(), engine, const_cast<void*>(x))},
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
  packed->any_row_count = type_ == ComputeType::kF32;
  for (auto& panel : packed->panels) {
    with_onednn([&] {
      const memory::desc any({in, panel.columns}, stored_, memory::format_tag::any);
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
  FloatBuffer padded_x;  // the last rows, filled up with zeros
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
void Matmul::run_product(const Product& product, std::span<const float> bias, const std::byte* x,
                         int64_t rows, float* result) {
  const auto& [panel, primitive] = product;
  execute(primitive->desc, primitive->run, panel->weights, x, result);
  if (bias.empty()) return;
  for (int64_t r = 0; r < rows; ++r) {
    best_kernels().add(result + r * panel->columns, bias.data() + panel->first, panel->columns);
  }
}

// inputs: of the piece's rows.
void Matmul::run_piece(const Piece& piece, const std::byte* inputs) {
  const auto& [call, values, gate, first_row, rows] = piece;
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

// All calls' panels for every tile of rows, those of one tile next to each other.
std::vector<Matmul::Piece> Matmul::cut(std::span<const LinearCall> calls,
                                       std::span<const RowTile> tiles) {
  std::vector<Piece> pieces;
  for (const RowTile& tile : tiles) {
    const auto product_of = [&](const PanelWeight& w, size_t i) {
      return Product{&w.panels[i], &primitive(tile.rows, w, w.panels[i])};
    };
    for (const LinearCall& call : calls) {
      const PanelWeight& weight = panels_of(call.weight);
      for (size_t i = 0; i < weight.panels.size(); ++i) {
        pieces.push_back({&call, product_of(weight, i),
                          call.gate ? product_of(panels_of(call.gate->weight), i) : Product{},
                          tile.first, tile.rows});
      }
    }
  }
  return pieces;
}

void Matmul::multiply_tiles(std::span<const LinearCall> calls, const float* x, int64_t rows,
                            Threads& threads) {
  if (rows == 0) return;
  const int64_t in = calls[0].weight.in;
  const bool gated = std::ranges::any_of(calls, [](const LinearCall& call) { return call.gate; });
  const std::vector<RowTile> tiles = cut_rows(rows, gated ? kGatedRowTile : row_tile(in),
                                              std::ranges::all_of(calls, any_row_count));
  const std::vector<Piece> pieces = cut(calls, tiles);
  double flops = 0;
  for (const LinearCall& call : calls) {
    flops += (call.gate ? 4.0 : 2.0) * static_cast<double>(call.weight.out * in * rows);
  }
  const auto run = [&](size_t count, const std::function<void(size_t)>& job) {
    if (flops >= kParallelFlops) return threads.run(count, job);
    for (size_t i = 0; i < count; ++i) job(i);
  };
  if (type_ == ComputeType::kF32) {
    return run(pieces.size(), [&](size_t i) {
      run_piece(pieces[i], reinterpret_cast<const std::byte*>(x + pieces[i].first_row * in));
    });
  }
  if (tiles.size() >= 2 * threads.count()) {  // a thread's rounded rows stay in its cache
    return run(tiles.size(), [&](size_t i) {
      thread_local FloatBuffer room;
      const std::byte* rounded = round(x + tiles[i].first * in, tiles[i].rows * in, room);
      const size_t n = pieces.size() / tiles.size();
      for (const Piece& piece : std::span(pieces).subspan(i * n, n)) run_piece(piece, rounded);
    });
  }
  const std::byte* rounded = round(x, rows * in, rounded_);
  run(pieces.size(), [&](size_t i) {
    run_piece(pieces[i], rounded + static_cast<size_t>(pieces[i].first_row * in) * sizeof(uint16_t));
  });
}

void gemm(const GemmShape& s, const float* a, const float* b, float* c) {
  with_onednn([&] {
    const dnnl_status_t status =
        dnnl_sgemm(s.transpose_a ? 'T' : 'N', s.transpose_b ? 'T' : 'N', s.m, s.n, s.k, 1.0f, a,
                   s.lda, b, s.ldb, s.accumulate ? 1.0f : 0.0f, c, s.ldc);
    dnnl::error::wrap_c_api(status, "matrix multiplication failed");
  });
}

// bf16 goes through AMX's tiles at several times float32's speed. vdpbf16ps alone is 2.8 times
// as fast on AMD's cores from Zen 4 on, but 0.6 times on Intel's (spec/performance.md).
ComputeType faster_compute_type() {
#if defined(__x86_64__)
  const unsigned isa = dnnl_get_effective_cpu_isa();  // what the system allows, too
  const auto has = [isa](unsigned units) { return (isa & units) == units; };
  __builtin_cpu_init();
  if (has(dnnl_cpu_isa_avx512_core_amx) ||
      (has(dnnl_cpu_isa_avx512_core_bf16) && __builtin_cpu_is("amd")))
    return ComputeType::kBF16;
#endif
  return ComputeType::kF32;
}

}  // namespace lewis
