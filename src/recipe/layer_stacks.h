// The layers of a model by the structure of its tensors' names. A model may have several stacks of
// layers (of a vision tower and of the text model): each is counted by itself.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "io/layer_name.h"

namespace lewis {

class LayerStacks {
 public:
  // Counts the layer that a tensor is in.
  void add(std::string_view tensor_name);
  // Layers from `layers` on in stacks of `layers + extra` are a stack of their own: heads that
  // predict further tokens (num_nextn_predict_layers), which lie behind the model's layers under
  // the same prefix.
  void split_off(int64_t layers, int64_t extra);

  // The number of layers in the stack of that prefix; 0 where there is no such stack.
  int64_t layers(std::string_view prefix) const;
  // The number of layers of the largest stack.
  int64_t most_layers() const;
  // The prefixes of all stacks, with their numbers of layers.
  const std::map<std::string, int64_t, std::less<>>& stacks() const { return stacks_; }

  // The depth of a tensor for gradients, within its stack: layer / (layers - 1); 1 if the stack has
  // one layer; 0 for tensors outside the layers (embeddings, final norm, head).
  double depth(std::string_view tensor_name) const;

 private:
  std::map<std::string, int64_t, std::less<>> stacks_;
  int64_t split_at_ = 0, extra_ = 0;
};

}  // namespace lewis
