// Keys and values of one sequence, so that the next token costs one row per layer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/error.h"
#include "model/model_spec.h"

namespace lewis {

class KvCache {
 public:
  explicit KvCache(const ModelSpec& spec)
      : width_(spec.kv_heads * spec.head_dim), layers_(static_cast<size_t>(spec.layers)) {}

  // Appends rows of keys and values ([rows, kv_heads * head_dim]) at `position`, which must be
  // where the layer ends.
  void append(int64_t layer, int64_t position, const float* keys, const float* values,
              int64_t rows) {
    Layer& l = layers_.at(static_cast<size_t>(layer));
    if (static_cast<int64_t>(l.keys.size()) != position * width_) {
      throw failed_error("cache of layer {} ends at position {}, not {}", layer,
                         static_cast<int64_t>(l.keys.size()) / width_, position);
    }
    l.keys.insert(l.keys.end(), keys, keys + rows * width_);
    l.values.insert(l.values.end(), values, values + rows * width_);
  }

  const float* keys(int64_t layer) const {
    return layers_.at(static_cast<size_t>(layer)).keys.data();
  }
  const float* values(int64_t layer) const {
    return layers_.at(static_cast<size_t>(layer)).values.data();
  }

 private:
  struct Layer {
    std::vector<float> keys, values;  // [positions, kv_heads * head_dim]
  };
  int64_t width_;
  std::vector<Layer> layers_;
};

}  // namespace lewis
