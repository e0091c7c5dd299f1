// Models whose layers are of several kinds: with a window or without, with rotary positions or
// without, with experts or without, recurrent or not. config.json lists the kinds layer by layer,
// or the model_type has a rule that goes by a layer's number. A stack of other layers keeps the
// kinds of its layers only if they are listed.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/json_fwd.h"

namespace lewis {

// The part of config.json that describes the text model: its text_config, or all of it.
const Json& text_part(const Json& config);
Json& text_part(Json& config);

// What config.json says of one layer under `key` ("layer_types", "no_rope_layers"), or what
// transformers' rule for the model_type makes of its number where the file has no list. Null where
// neither says anything. `text`: see text_part.
Json layer_kind(const Json& text, std::string_view key, int64_t layer);

// Throws Error(kInput) that names `file`, key, the expected and the found length where config.json
// lists kinds for another number of layers than it has. transformers 5 does not load such a model.
// Layers of a promised MTP module may be listed, too.
void check_layer_lists(const Json& config, std::string_view file);

// A layer of a stack and the model that it comes from.
struct LayerOrigin {
  const Json* text = nullptr;  // see text_part
  int64_t layer = 0;
  std::string model;  // for messages
};

// Makes `text` describe the stack: the number of its layers, and every list and every rule as lists
// that give each layer the kind that it has in its own model. Lists are written where transformers
// reads them for the model_type. Throws Error(kUsage) that names key and layer where a layer would
// become another kind and transformers has no list that prevents it, Error(kInput) where `text` is
// no object.
void stack_layer_kinds(std::span<const LayerOrigin> layers, Json& text);

}  // namespace lewis
