// The head of a language model, and whether it is the embeddings once more.
#pragma once

#include <span>
#include <string>

#include "base/json_fwd.h"
#include "io/tensor_source.h"

namespace lewis {

// Returns whether config.json ties the head to the embeddings: by tie_word_embeddings, which counts
// at the top of the file before it counts in text_config, else by the default of the model_type in
// transformers. A model_type that is not known here, and a file without one, is not tied. The
// weights have the last word: a head that is stored with other values is a head of its own
// (holds_own_head).
bool config_ties_head(const Json& config);

// The matrix that token ids are looked up in and the head's, by their names; null where the model
// has none. Those of single layers (of prediction heads) are not meant.
struct HeadTensors {
  const TensorInfo* embedding = nullptr;
  const TensorInfo* head = nullptr;
};
HeadTensors find_head(std::span<const TensorInfo> tensors);
// How the head is called in a model whose embeddings have this name: "lm_head.weight".
std::string head_name_beside(const std::string& embedding);

// Makes a config.json that ties head and embeddings say that they are two: at its top, and in its
// text_config where it has one.
void untie_head(Json& config);

// Returns whether two tensors of a source have the same shape and the same values. Those of
// different float types are widened and compared; NaN equals NaN. Reads a few MiB at a time and
// ends at the first difference.
bool same_values(const TensorSource& source, const TensorInfo& a, const TensorInfo& b);

// Returns whether a model has a head besides its embeddings: one is stored, and it is not just the
// copy of tied embeddings that some programs write.
bool holds_own_head(const TensorSource& source, const HeadTensors& found, bool tied_by_config);

}  // namespace lewis
