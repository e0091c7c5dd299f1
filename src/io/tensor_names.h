// The spellings of tensor names. transformers has renamed tensors over the years: a file says
// language_model.model.layers.0, the class that reads it model.language_model.layers.0, and the
// same layer is layers.0 where only the inner model was saved. This is the one table of such names
// for adapters, for merging and for the forward pass.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor_source.h"

namespace lewis {

// One spelling for all spellings of a name. It drops the attributes that wrap a model (model,
// language_model, transformer, bert, ...), those that torch.compile, FSDP and activation
// checkpointing add (_orig_mod, ...), and takes transformers' other renamings back.
// "language_model.model.layers.0.mlp.up_proj.weight", "model.language_model.layers.0.(...)" and
// "model.layers.0.(...)" are all "layers.0.mlp.up_proj.weight". `extra`: what was dropped that no
// model of transformers has, as "_orig_mod"; empty if nothing.
std::string canonical_name(std::string_view name, std::string* extra = nullptr);

// Finds tensors by any spelling of their names. The tensors must outlive it. Calls are made by one
// thread at a time: the table of spellings is built when a name is not found as it is.
class NameIndex {
 public:
  explicit NameIndex(const TensorSource& source) : source_(source) {}

  // The tensor of that name, else the only one with the same canonical name, else null.
  const TensorInfo* find(std::string_view name) const;

 private:
  const TensorSource& source_;
  // By canonical name; null where two tensors have it.
  mutable std::optional<std::map<std::string, const TensorInfo*, std::less<>>> canonical_;
};

// Returns whether a tensor is a buffer that follows from config.json: rotary frequencies, a causal
// mask, the numbers of the positions. Old programs stored them; they are no weights.
bool is_buffer(const TensorInfo& tensor);

}  // namespace lewis
