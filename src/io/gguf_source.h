// The tensors of GGUF files as plain numbers: blocks as the floats that they stand for, read piece
// by piece.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/gguf.h"
#include "io/tensor_source.h"

namespace lewis {

// A tensor that is shown, and where its values lie.
struct ShownGgufTensor {
  std::string name;
  Shape shape;  // of what is shown, outermost first
  std::shared_ptr<const GgufFile> file;
  const GgufFile::Entry* entry = nullptr;
  int64_t first = 0;       // of the entry's elements; of blocks a multiple of their size
  int64_t rope_heads = 0;  // its rows change places within as many heads (row_in_rope); or 0
};

// Shows these tensors, whose names must differ. Plain numbers keep their type, blocks are F32 with
// exactly the values that ggml computes with.
std::shared_ptr<const TensorSource> show_gguf(std::string label,
                                              std::vector<ShownGgufTensor> tensors);

// llama.cpp turns neighbouring rows of a head, transformers rows half a head apart: row `row` of
// the file is this row of the model, of a matrix whose rows are `heads` heads of an even size.
int64_t row_of_rope(int64_t row, int64_t rows, int64_t heads);
// The reverse: row `row` of the model is this row of the file.
int64_t row_in_rope(int64_t row, int64_t rows, int64_t heads);

}  // namespace lewis
