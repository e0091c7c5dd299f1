// Tensors that are put together from matrices inside of stored ones: an expert of a tensor that
// holds all experts, a part of a fused layer, or a fused layer of its parts.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "io/tensor_source.h"

namespace lewis {

// Where the rows of a matrix lie in a tensor, in elements: element (r, c) is number
// first + r * row_step + c * column_step.
struct Strides {
  int64_t first = 0, rows = 0, columns = 0;
  int64_t row_step = 0, column_step = 1;

  int64_t count() const { return rows * columns; }
  bool is_contiguous() const { return column_step == 1 && (row_step == columns || rows == 1); }
  // One past the last element.
  int64_t end() const { return first + (rows - 1) * row_step + (columns - 1) * column_step + 1; }
};

// Copies the elements [begin, begin + out.size() / size) of the matrix, row by row, out of the
// bytes of its tensor from element `base` on.
void gather(const Strides& matrix, int64_t begin, std::span<const std::byte> tensor, int64_t base,
            size_t size, std::span<std::byte> out);
// Copies the whole matrix, row by row, to its places.
void scatter(const Strides& matrix, std::span<const std::byte> values, int64_t base, size_t size,
             std::span<std::byte> tensor);

struct Piece {
  const TensorInfo* stored = nullptr;
  Strides place;
};

// A tensor whose elements are those of its pieces, one after the other; all have its type.
struct PiecedTensor {
  TensorInfo info;
  std::vector<Piece> pieces;
};

// The whole tensor as it is stored.
PiecedTensor whole_tensor(const TensorInfo& tensor);

// Shows exactly these tensors of the source; the names must differ.
std::shared_ptr<const TensorSource> show_pieces(std::shared_ptr<const TensorSource> source,
                                                std::vector<PiecedTensor> tensors);

}  // namespace lewis
