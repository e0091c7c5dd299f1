// The layer that a tensor is in, by its name.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace lewis {

// "model.layers.", 3, ".mlp.up_proj.weight": split at the first part of the name that is a number,
// so that model.layers.11.mlp.experts.3 is in layer 11 of the stack "model.layers.". A name without
// a layer is all prefix.
struct LayerName {
  std::string_view prefix, rest;
  std::optional<int64_t> layer;
};
LayerName split_layer(std::string_view tensor_name);

// The layer number in a name ("model.layers.11.mlp.up_proj.weight": 11), if it has one.
std::optional<int64_t> tensor_layer(std::string_view tensor_name);

}  // namespace lewis
