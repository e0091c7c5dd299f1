#include "compute/cpu/stored_matmul.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/threads.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/stored_kernels.h"

namespace lewis {
namespace {

// Of weights: a piece of work. Large ones, which memory reads faster and, for prompts, because each
// reads all inputs; but some for each thread.
constexpr int64_t kLargestPiece = 512 << 10, kLeastPiece = 64 << 10;
int64_t piece_bytes(int64_t all_bytes, int64_t rows, size_t threads) {
  if (rows > 64) return kLargestPiece;
  return std::clamp(all_bytes / static_cast<int64_t>(4 * threads), kLeastPiece, kLargestPiece);
}
constexpr int64_t kTileBytes = 16 << 10;    // of weights, in the first cache while inputs pass
constexpr int64_t kChunkBytes = 512 << 10;  // of inputs, in the second cache while weights pass
constexpr int64_t kOutStep = 12;            // a multiple of every kernel's columns
// Below this many bytes of weights times rows, waking another thread costs more than it saves.
constexpr int64_t kParallelWork = 512 << 10;

// A few rows that are multiplied at once.
struct RowBlock {
  int64_t first = 0, rows = 0;
  int size = 0;              // of the kernel: for 1 << size rows
  const float* x = nullptr;  // packed
};

const StoredWeight& stored(const LinearCall& call) {
  return static_cast<const StoredWeight&>(call.weight);
}

int64_t row_bytes(const StoredWeight& weight) {
  return weight.in * static_cast<int64_t>(dtype_size(weight.dtype));
}

// Blocks of 8 rows, the last one of what is left.
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

// Output columns of one call that one thread computes for all rows.
struct Piece {
  const LinearCall* call;
  int64_t first, count;
};

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
  if (piece.call->bias.empty()) return;
  for (const RowBlock& block : blocks) {
    for (int64_t r = block.first; r < block.first + block.rows; ++r) {
      best_kernels().add(piece.call->y + r * weight.out + piece.first,
                         piece.call->bias.data() + piece.first, piece.count);
    }
  }
}

}  // namespace

void StoredMatmul::multiply(std::span<const LinearCall> calls, const float* x, int64_t rows,
                            Threads& threads) {
  if (rows == 0 || calls.empty()) return;
  const int64_t in = calls[0].weight.in;
  const int64_t padded_in = (in + kPackedLanes - 1) / kPackedLanes * kPackedLanes;
  float* packed = packed_.get((rows + kLargestBlock) * padded_in);
  const std::vector<RowBlock> blocks = cut_rows(rows, padded_in, packed);
  std::vector<Piece> pieces;
  int64_t bytes = 0;
  for (const LinearCall& call : calls) bytes += call.weight.out * row_bytes(stored(call));
  const int64_t piece = piece_bytes(bytes, rows, threads.count());
  for (const LinearCall& call : calls) {
    const int64_t step = std::max(kOutStep, piece / row_bytes(stored(call)) / kOutStep * kOutStep);
    for (int64_t o = 0; o < call.weight.out; o += step) {
      pieces.push_back({&call, o, std::min(step, call.weight.out - o)});
    }
  }
  const auto pack = [&](size_t i) {
    pack_rows(blocks[i], x, in, packed + blocks[i].first * padded_in);
  };
  const auto run = [&](size_t i) { run_piece(pieces[i], blocks); };
  const auto for_all = [&](size_t n, bool parallel, const auto& f) {
    if (parallel) return threads.run(n, f);
    for (size_t i = 0; i < n; ++i) f(i);
  };
  for_all(blocks.size(), blocks.size() > 16, pack);
  for_all(pieces.size(), bytes * rows >= kParallelWork, run);
}

}  // namespace lewis
