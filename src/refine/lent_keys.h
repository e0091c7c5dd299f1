// Keys and values that a block lends to later ones (ModelSpec: kv_source, lends_kv), as columns of
// what HiddenStates keeps of them: one lending layer after the other.
#pragma once

#include <optional>

#include "model/mixer.h"
#include "model/model_spec.h"

namespace lewis {

struct LentColumns {
  int64_t layer = 0;  // that lends
  int64_t first = 0, count = 0;
};

// Columns of all lending layers together.
inline int64_t lent_width(const ModelSpec& spec) {
  int64_t width = 0;
  for (int64_t i = 0; i < spec.layers; ++i) {
    const LayerSpec& l = spec.layer[static_cast<size_t>(i)];
    if (l.lends_kv) width += l.mixer->state_values(spec, i);
  }
  return width;
}

// The columns of what `layer` lends; nothing where it lends nothing.
inline std::optional<LentColumns> lent_by(const ModelSpec& spec, int64_t layer) {
  LentColumns columns{layer, 0, 0};
  for (int64_t i = 0; i <= layer && i < spec.layers; ++i) {
    const LayerSpec& l = spec.layer[static_cast<size_t>(i)];
    if (!l.lends_kv) continue;
    columns.first += columns.count;
    columns.count = l.mixer->state_values(spec, i);
    if (i == layer) return columns;
  }
  return {};
}

// The columns of what `layer` reads of an earlier one.
inline std::optional<LentColumns> read_by(const ModelSpec& spec, int64_t layer) {
  if (layer >= spec.layers) return {};
  const int source = spec.layer[static_cast<size_t>(layer)].kv_source;
  if (source == kNoSource) return {};
  return lent_by(spec, source);
}

}  // namespace lewis
