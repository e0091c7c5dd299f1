#include "compute/cpu/stored_matmul.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/threads.h"
#include "compute/cpu/linear_call.h"
#include "compute/cpu/stored_kernels.h"

namespace lewis {
namespace {

// The weights of one piece of work. Pieces are large, because memory reads long stretches faster
// and each piece of a prompt reads all inputs; but every thread should get several.
constexpr int64_t kLargestPiece = 512 << 10, kLeastPiece = 64 << 10;
int64_t piece_bytes(int64_t all_bytes, int64_t rows, size_t threads) {
  if (rows > 64) return kLargestPiece;
  return std::clamp(all_bytes / static_cast<int64_t>(4 * threads), kLeastPiece, kLargestPiece);
}
constexpr int64_t kTileBytes = 16 << 10;    // weights that stay in the first cache
constexpr int64_t kChunkBytes = 512 << 10;  // inputs that stay in the second cache
constexpr int64_t kOutStep = 12;            // a multiple of every kernel's columns
// Below this many bytes of weights times rows, waking another thread costs more than it saves.
constexpr int64_t kParallelWork = 512 << 10;

// A few rows that are multiplied together.
struct RowBlock {
  int64_t first = 0, rows = 0;
  int size = 0;              // the kernel is for 1 << size rows
  const float* x = nullptr;  // packed
};

const StoredWeight& stored(const LinearCall& call) {
  return static_cast<const StoredWeight&>(call.weight);
}

int64_t row_bytes(const StoredWeight& weight) {
  return weight.in * static_cast<int64_t>(dtype_size(weight.dtype));
}

// Packs rows in blocks of 8; the last block holds the rest.
std::vector<RowBlock> cut_rows(int64_t rows, int64_t padded_in, const float* packed) {
  std::vector<RowBlock> blocks;
  for (int64_t first = 0; first < rows; first += kLargestBlock) {
    RowBlock block{first, std::min(kLargestBlock, rows - first), 0, packed + first * padded_in};
    while (int64_t{1} << block.size < block.rows) ++block.size;
    blocks.push_back(block);
  }
  return blocks;
}

void pack_rows(const RowBlock& block, const float* x, int64_t in, float* packed) {
  const int64_t size = int64_t{1} << block.size;
  for (int64_t r = 0; r < size; ++r) {
    const float* from = x + (block.first + r) * in;
    for (int64_t i = 0; i < in; i += kPackedLanes) {
      float* to = packed + i * size + r * kPackedLanes;
      const int64_t n = r < block.rows ? std::min(kPackedLanes, in - i) : 0;
      if (n == kPackedLanes) {
        std::memcpy(to, from + i, kPackedLanes * sizeof(float));
      } else {
        std::fill(std::copy_n(from + i, n, to), to + kPackedLanes, 0.0f);
      }
    }
  }
}

StoredDots kernel_of(DType dtype, int size) {
  const StoredKernels& kernels = best_stored_kernels();
  return (dtype == DType::kF32    ? kernels.f32
          : dtype == DType::kBF16 ? kernels.bf16
                                  : kernels.f16)[size];
}

// The output columns of one call that one thread computes for all rows.
struct Piece {
  const LinearCall* call;
  int64_t first, count;
};

void add_bias_of(const Piece& piece, int64_t rows) {
  const LinearCall& call = *piece.call;
  add_bias(call.bias, piece.first, piece.count, call.y + piece.first, rows, call.weight.out);
}

void run_piece(const Piece& piece, std::span<const RowBlock> blocks) {
  const StoredWeight& weight = stored(*piece.call);
  const int64_t bytes = row_bytes(weight);
  const int64_t tile = std::max(kOutStep, kTileBytes / bytes / kOutStep * kOutStep);
  const auto chunk = static_cast<size_t>(std::max<int64_t>(
      1, kChunkBytes / (kLargestBlock * weight.in * static_cast<int64_t>(sizeof(float)))));
  for (size_t first = 0; first < blocks.size(); first += chunk) {
    const auto some = blocks.subspan(first, std::min(chunk, blocks.size() - first));
    for (int64_t o = piece.first; o < piece.first + piece.count; o += tile) {
      const int64_t count = std::min(tile, piece.first + piece.count - o);
      for (const RowBlock& block : some) {
        kernel_of(weight.dtype, block.size)(
            weight.bytes.get() + o * bytes, count, weight.in, block.x, block.rows,
            piece.call->y + block.first * weight.out + o, weight.out);
      }
    }
  }
  add_bias_of(piece, blocks.back().first + blocks.back().rows);
}

// Cuts the weights into pieces of about `bytes`, in steps of `out_step` columns. A rest of less
// than half a step belongs to the last piece of its weight.
std::vector<Piece> cut_weights(std::span<const LinearCall> calls, int64_t bytes, int64_t out_step) {
  std::vector<Piece> pieces;
  for (const LinearCall& call : calls) {
    const int64_t out = call.weight.out;
    const int64_t step =
        std::max<int64_t>(1, bytes / row_bytes(stored(call)) / out_step) * out_step;
    for (int64_t o = 0, count; o < out; o += count) {
      count = out - o < step + out_step / 2 ? out - o : step;
      pieces.push_back({&call, o, count});
    }
  }
  return pieces;
}

int64_t weight_bytes(std::span<const LinearCall> calls) {
  int64_t bytes = 0;
  for (const LinearCall& call : calls) bytes += call.weight.out * row_bytes(stored(call));
  return bytes;
}

constexpr int64_t kPanel = PanelProduct::kPanel;
constexpr int64_t kRoundedOut = 128;          // columns of one product
constexpr int64_t kRoundedRows = 8 * kPanel;  // rows of one product

// Rounds rows [first, first + 16) of x into a panel as PanelProduct takes it.
void round_panel(const Bf16Kernels& kernels, const float* x, int64_t first, int64_t rows,
                 int64_t in, uint32_t* panel) {
  thread_local FloatBuffer room;
  auto* rounded = reinterpret_cast<uint16_t*>(room.get(kPanel * in / 2));  // [16, in]
  for (int64_t r = 0; r < kPanel; ++r) {
    if (first + r < rows) {
      kernels.round(x + (first + r) * in, in, rounded + r * in);
    } else {
      std::fill_n(rounded + r * in, in, uint16_t{0});
    }
  }
  pair_columns(rounded, in, panel);
}

// to[c, r] = from[r, c]
void transpose(const float* from, int64_t rows, int64_t columns, int64_t from_stride, float* to,
               int64_t to_stride) {
  for (int64_t first = 0; first < columns; first += kPanel) {
    const int64_t last = std::min(first + kPanel, columns);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = first; c < last; ++c) to[c * to_stride + r] = from[r * from_stride + c];
    }
  }
}

// The weights are the left factor as they lie in memory. The rows of x are the columns of the right
// factor.
void run_rounded(const Bf16Kernels& kernels, const Piece& piece, const uint32_t* panels,
                 int64_t rows) {
  const StoredWeight& weight = stored(*piece.call);
  const int64_t in = weight.in, panel_size = in / 2 * kPanel;
  const auto* values = reinterpret_cast<const uint16_t*>(weight.bytes.get());
  thread_local FloatBuffer room;
  float* c = room.get(kRoundedOut * kRoundedRows);
  for (int64_t first = 0; first < rows; first += kRoundedRows) {
    const int64_t count = std::min(kRoundedRows, rows - first);
    const int64_t n = round_up(count, kPanel);
    for (int64_t o = 0; o < piece.count;) {
      // The last 16 columns of a weight overlap those before them, so that a panel is full.
      int64_t m = std::min(kRoundedOut, (piece.count - o) / kPanel * kPanel);
      if (m == 0) o = piece.count - (m = kPanel);
      kernels.multiply({.m = m,
                        .n = n,
                        .k = in,
                        .a = values + (piece.first + o) * in,
                        .row_stride = in,
                        .b = panels + first / kPanel * panel_size,
                        .panel_stride = panel_size,
                        .c = c,
                        .c_stride = n});
      transpose(c, m, count, n, piece.call->y + first * weight.out + piece.first + o, weight.out);
      o += m;
    }
  }
  add_bias_of(piece, rows);
}

}  // namespace

StoredMatmul::StoredMatmul(ComputeType type)
    : kernels_(type == ComputeType::kBF16 ? amx_bf16_kernels() : nullptr) {}

bool StoredMatmul::rounds(const LinearCall& call) const {
  return kernels_ && stored(call).dtype == DType::kBF16 && call.weight.out >= kPanel &&
         call.weight.in % PanelProduct::kStep == 0;
}

void StoredMatmul::multiply(std::span<const LinearCall> calls, const float* x, int64_t rows,
                            Threads& threads) {
  if (rows == 0) return;
  std::vector<LinearCall> exact, rounded;
  for (const LinearCall& call : calls) (rounds(call) ? rounded : exact).push_back(call);
  if (!exact.empty()) multiply_exactly(exact, x, rows, threads);
  if (!rounded.empty()) multiply_rounded(rounded, x, rows, threads);
}

void StoredMatmul::multiply_rounded(std::span<const LinearCall> calls, const float* x, int64_t rows,
                                    Threads& threads) {
  const int64_t in = calls[0].weight.in, panel_size = in / 2 * kPanel;
  const auto panels = static_cast<size_t>(round_up(rows, kPanel) / kPanel);
  auto* packed =
      reinterpret_cast<uint32_t*>(packed_.get(static_cast<int64_t>(panels) * panel_size));
  const int64_t bytes = weight_bytes(calls);
  const auto pieces = cut_weights(calls, piece_bytes(bytes, rows, threads.count()), 2 * kPanel);
  for_all(panels, panels > 8, threads, [&](size_t p) {
    const auto panel = static_cast<int64_t>(p);
    round_panel(*kernels_, x, panel * kPanel, rows, in, packed + panel * panel_size);
  });
  for_all(pieces.size(), bytes >= kParallelWork / 8, threads,
          [&](size_t i) { run_rounded(*kernels_, pieces[i], packed, rows); });
}

void StoredMatmul::multiply_exactly(std::span<const LinearCall> calls, const float* x, int64_t rows,
                                    Threads& threads) {
  const int64_t in = calls[0].weight.in;
  const int64_t padded_in = round_up(in, kPackedLanes);
  float* packed = packed_.get((rows + kLargestBlock) * padded_in);
  const std::vector<RowBlock> blocks = cut_rows(rows, padded_in, packed);
  const int64_t bytes = weight_bytes(calls);
  const auto pieces = cut_weights(calls, piece_bytes(bytes, rows, threads.count()), kOutStep);
  for_all(blocks.size(), blocks.size() > 16, threads,
          [&](size_t i) { pack_rows(blocks[i], x, in, packed + blocks[i].first * padded_in); });
  for_all(pieces.size(), bytes * rows >= kParallelWork, threads,
          [&](size_t i) { run_piece(pieces[i], blocks); });
}

}  // namespace lewis
