// A model whose head is its embeddings, by config.json (tie_word_embeddings).
#pragma once

#include <cstdint>
#include <memory>

#include "io/tensor_source.h"

namespace lewis {

// The model without its head, if it stores one beside its embeddings [vocab_size, ...]: a copy that
// nobody reads must not be merged, and with random masks, which depend on names, it would differ.
std::shared_ptr<const TensorSource> without_tied_head(std::shared_ptr<const TensorSource> model,
                                                      int64_t vocab_size);

}  // namespace lewis
