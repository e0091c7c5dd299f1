// Which tensors belong to which module of a model of several (a language model and a vision tower).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace lewis {

// The module, an index into `modules`, to which a tensor belongs by its name: the one whose name is
// a part of it, as "vision_tower" is of "model.vision_tower.layers.0.mlp.fc1.weight" (only parts
// before the number of a layer count, and the first wins). "text_decoder" also stands for
// "language_model" and "text_model", "visual" and "vision_tower" for each other. What no name fits
// goes to "default" or else to "text_decoder", if the recipe has one.
std::optional<size_t> module_of(std::string_view tensor, std::span<const std::string> modules);

}  // namespace lewis
