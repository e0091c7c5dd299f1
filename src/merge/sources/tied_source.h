// A model whose head is its embeddings, by config.json (tie_word_embeddings).
#pragma once

#include <cstdint>
#include <memory>

#include "io/tensor_source.h"

namespace lewis {

// Without the head, if the model stores one beside its embeddings [vocab_size, ...]: a copy that
// nobody reads must not be merged, let alone apart from them (random masks go by name).
std::shared_ptr<const TensorSource> without_tied_head(std::shared_ptr<const TensorSource> model,
                                                      int64_t vocab_size);

}  // namespace lewis
