#include "recipe/layer_stacks.h"

#include <algorithm>

namespace lewis {

void LayerStacks::add(std::string_view tensor_name) {
  const LayerName name = split_layer(tensor_name);
  if (!name.layer) return;
  auto stack = stacks_.find(name.prefix);
  if (stack == stacks_.end()) stack = stacks_.emplace(name.prefix, 0).first;
  stack->second = std::max(stack->second, *name.layer + 1);
}

void LayerStacks::split_off(int64_t layers, int64_t extra) {
  split_at_ = layers;
  extra_ = extra;
}

int64_t LayerStacks::layers(std::string_view prefix) const {
  const auto stack = stacks_.find(prefix);
  return stack == stacks_.end() ? 0 : stack->second;
}

int64_t LayerStacks::most_layers() const {
  int64_t most = 0;
  for (const auto& [_, layers] : stacks_) most = std::max(most, layers);
  return most;
}

double LayerStacks::depth(std::string_view tensor_name) const {
  const LayerName name = split_layer(tensor_name);
  if (!name.layer) return 0;
  int64_t layer = *name.layer, count = layers(name.prefix);
  if (extra_ > 0 && split_at_ > 0 && count == split_at_ + extra_) {
    const bool behind = layer >= split_at_;
    layer -= behind ? split_at_ : 0;
    count = behind ? extra_ : split_at_;
  }
  if (count <= 1) return 1;
  return std::min(1.0, static_cast<double>(layer) / static_cast<double>(count - 1));
}

}  // namespace lewis
