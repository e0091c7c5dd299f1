#include "compute/cpu/bf16_matmul.h"

#include <algorithm>
#include <cstring>

#include "base/dtype.h"
#include "compute/cpu/linear_call.h"

namespace lewis {
namespace {

constexpr int64_t kPanel = PanelProduct::kPanel, kStep = PanelProduct::kStep;
// Inputs and outputs of one product, chosen so that both factors stay in a core's second cache.
constexpr int64_t kMostIn = 2048, kMostOut = 512;
int64_t row_tile(int64_t in, int64_t parts) {
  if (parts == 1) return in <= kMostIn ? 256 : 128;
  return in <= 1024 ? 256 : in <= kMostIn ? 128 : 64;
}

// Rows at multiples of 1 KiB would share a few lines of the first cache.
int64_t row_stride(int64_t in) {
  const int64_t padded = round_up(in, kStep);
  return padded % 512 == 0 ? padded + kStep : padded;
}

// The size of even parts of at most `most`, a multiple of `step`.
int64_t part_of(int64_t n, int64_t most, int64_t step) {
  const int64_t count = (n + most - 1) / most;
  return round_up((n + count - 1) / count, step);
}

}  // namespace

PageBuffer WeightPool::take(size_t bytes) {
  std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(free_, bytes, &Free::bytes);
  PageBuffer pages;
  if (found != free_.end()) {
    pages = std::move(found->pages);
    free_.erase(found);
    kept_ -= bytes;
  } else if (kept_ + bytes > kMostKept) {  // the shapes have changed
    free_.clear();
    kept_ = 0;
  }
  pages.get(bytes);
  return pages;
}

void WeightPool::give(PageBuffer pages, size_t bytes) {
  std::lock_guard lock(mutex_);
  if (kept_ + bytes > kMostKept) return;
  kept_ += bytes;
  free_.push_back({bytes, std::move(pages)});
}

Bf16Weight::Bf16Weight(std::shared_ptr<WeightPool> from, int64_t outputs, int64_t inputs)
    : pool(std::move(from)) {
  out = outputs;
  in = inputs;
  pages = pool->take(bytes());
  panels = reinterpret_cast<uint32_t*>(pages.get(bytes()).data());
}

size_t Bf16Weight::bytes() const {
  return static_cast<size_t>(round_up(out, kPanel) * round_up(in, kStep)) * sizeof(uint16_t);
}

Bf16Matmul::Bf16Matmul(ComputeType type)
    : pool_(std::make_shared<WeightPool>()), parts_(type == ComputeType::kBF16 ? 1 : 3) {}

bool Bf16Matmul::takes(DType dtype) const {
  return parts_ == 1 || (amx_bf16_kernels() && dtype == DType::kBF16);
}

// Some rows as they are multiplied, followed by zeros: [parts, round_up(count, 16), stride].
struct Bf16Matmul::Rows {
  int64_t first = 0, count = 0, in = 0, parts = 0;
  uint16_t* values = nullptr;

  int64_t stride() const { return row_stride(in); }
  int64_t padded() const { return round_up(count, kPanel); }
  int64_t part_size() const { return padded() * stride(); }
  int64_t floats() const { return parts * part_size() / 2; }  // the room that they take
};

// A range of a call's outputs.
struct Bf16Matmul::Piece {
  const LinearCall* call;
  int64_t first, count;
};

std::unique_ptr<PackedWeight> Bf16Matmul::pack(DType dtype, const std::byte* weight, int64_t out,
                                               int64_t in, Threads& threads) const {
  auto packed = std::make_unique<Bf16Weight>(pool_, out, in);
  const int64_t width = round_up(in, kStep), panels = round_up(out, kPanel) / kPanel;
  uint32_t* to = packed->panels;
  threads.run(static_cast<size_t>(panels), [&](size_t p) {
    thread_local FloatBuffer floats, room;
    auto* rows = reinterpret_cast<uint16_t*>(room.get(kPanel * width / 2));  // [16, width]
    const int64_t first = static_cast<int64_t>(p) * kPanel, end = std::min(first + kPanel, out);
    std::fill_n(rows, kPanel * width, uint16_t{0});
    for (int64_t r = first; r < end; ++r) {
      const std::byte* from = weight + static_cast<size_t>(r * in) * dtype_size(dtype);
      uint16_t* row = rows + (r - first) * width;
      if (dtype == DType::kBF16) {
        std::memcpy(row, from, static_cast<size_t>(in) * sizeof *row);
      } else {
        const std::span<float> values(floats.get(in), static_cast<size_t>(in));
        widen(dtype, from, values);
        kernels_.round(values.data(), in, row);
      }
    }
    pair_columns(rows, width, to + first * width / 2);
  });
  return packed;
}

void Bf16Matmul::round(const float* x, Rows& rows) const {
  const int64_t stride = rows.stride(), size = rows.part_size();
  for (int64_t r = 0; r < rows.count; ++r) {
    const float* from = x + (rows.first + r) * rows.in;
    uint16_t* to = rows.values + r * stride;
    if (rows.parts == 1) {
      kernels_.round(from, rows.in, to);
    } else {
      split_bf16(from, rows.in, {to, to + size, to + 2 * size});
    }
  }
  for (uint16_t* part = rows.values; part < rows.values + rows.parts * size; part += size) {
    for (int64_t r = 0; r < rows.count && rows.in < stride; ++r)
      std::fill(part + r * stride + rows.in, part + (r + 1) * stride, uint16_t{0});
    std::fill(part + rows.count * stride, part + size, uint16_t{0});
  }
}

// y[rows.count, piece.count] = rows * the piece's outputs of the weight (+ bias).
void Bf16Matmul::run_product(const PackedWeight& weight, std::span<const float> bias,
                             const Piece& piece, const Rows& rows, float* y,
                             int64_t y_stride) const {
  const int64_t width = round_up(rows.in, kStep), n = round_up(piece.count, kPanel);
  const bool whole = rows.count == rows.padded() && piece.count == n;
  thread_local FloatBuffer room;
  float* c = whole ? y : room.get(rows.padded() * n);
  const int64_t c_stride = whole ? y_stride : n, part = part_of(width, kMostIn, kStep);
  const uint32_t* b = dynamic_cast<const Bf16Weight&>(weight).panels + piece.first * width / 2;
  for (int64_t k = 0; k < width; k += part) {
    for (int64_t p = rows.parts - 1; p >= 0; --p) {  // the smallest first
      kernels_.multiply({.m = rows.padded(),
                         .n = n,
                         .k = std::min(part, width - k),
                         .a = rows.values + p * rows.part_size() + k,
                         .row_stride = rows.stride(),
                         .b = b + k / 2 * kPanel,
                         .panel_stride = width / 2 * kPanel,
                         .c = c,
                         .c_stride = c_stride,
                         .accumulate = k > 0 || p < rows.parts - 1});
    }
  }
  for (int64_t r = 0; r < rows.count && !whole; ++r)
    std::copy_n(c + r * n, piece.count, y + r * y_stride);
  add_bias(bias, piece.first, piece.count, y, rows.count, y_stride);
}

void Bf16Matmul::run_piece(const Piece& piece, const Rows& rows) const {
  const LinearCall& call = *piece.call;
  const int64_t out = call.weight.out, n = piece.count;
  float* y = call.y + rows.first * out + piece.first;  // [rows, n], stride `out`
  if (!call.gate) return run_product(call.weight, call.bias, piece, rows, y, out);
  thread_local FloatBuffer room;
  const int64_t stride = round_up(n, kPanel);
  float* gate = room.get(2 * rows.padded() * stride);
  float* values = gate + rows.padded() * stride;
  run_product(call.gate->weight, call.gate->bias, piece, rows, gate, stride);
  run_product(call.weight, call.bias, piece, rows, values, stride);
  const auto activate = best_kernels().activate[static_cast<size_t>(call.gate->activation)];
  for (int64_t r = 0; r < rows.count; ++r)
    activate(gate + r * stride, values + r * stride, n, y + r * out);
}

void Bf16Matmul::multiply(std::span<const LinearCall> calls, const float* x, int64_t rows,
                          Threads& threads) {
  const int64_t in = calls[0].weight.in;
  std::vector<Piece> pieces;
  for (const LinearCall& call : calls) {
    const int64_t out = call.weight.out, part = part_of(out, kMostOut, 2 * kPanel);
    for (int64_t first = 0; first < out; first += part)
      pieces.push_back({&call, first, std::min(part, out - first)});
  }
  std::vector<Rows> tiles;
  const int64_t step = row_tile(in, parts_);
  for (int64_t first = 0; first < rows; first += step)
    tiles.push_back({first, std::min(step, rows - first), in, parts_});
  if (tiles.size() >= 2 * threads.count()) {
    return threads.run(tiles.size(), [&](size_t i) {
      thread_local FloatBuffer room;
      tiles[i].values = reinterpret_cast<uint16_t*>(room.get(tiles[i].floats()));
      round(x, tiles[i]);
      for (const Piece& piece : pieces) run_piece(piece, tiles[i]);
    });
  }
  int64_t floats = 0;
  for (const Rows& tile : tiles) floats += tile.floats();
  float* room = rounded_.get(floats);
  for (Rows& tile : tiles) {
    tile.values = reinterpret_cast<uint16_t*>(room);
    room += tile.floats();
  }
  const bool parallel = worth_threads(calls, rows);
  for_all(tiles.size(), parallel, threads, [&](size_t i) { round(x, tiles[i]); });
  for_all(tiles.size() * pieces.size(), parallel, threads,
          [&](size_t i) { run_piece(pieces[i % pieces.size()], tiles[i / pieces.size()]); });
}

}  // namespace lewis
