#include "model/sequence_state.h"

#include <algorithm>

#include "base/error.h"
#include "model/mixers/kv_cache.h"
#include "model/transformer.h"

namespace lewis {
namespace {

// Half of a row are keys, half are values.
size_t width_of(const Transformer& model, int64_t layer) {
  const ModelSpec& spec = model.spec();
  const MixerPtr& mixer = spec.layer.at(static_cast<size_t>(layer)).mixer;
  return static_cast<size_t>(mixer->state_values(spec, layer)) / 2;
}

}  // namespace

void read_lent(const SequenceSide& side, const Transformer& model, int64_t layer,
               std::span<float> rows) {
  const auto found = side.lent.find({&model, layer});
  if (found == side.lent.end() || !found->second)
    throw failed_error("layer {} has lent nothing yet", layer);
  const auto& cache = static_cast<const KvCache&>(*found->second);
  const size_t width = width_of(model, layer);
  for (size_t i = 0; i < rows.size() / (2 * width); ++i) {
    float* row = &rows[2 * i * width];
    std::copy_n(cache.keys() + i * width, width, row);
    std::copy_n(cache.values() + i * width, width, row + width);
  }
}

void set_lent(SequenceSide& side, const Transformer& model, int64_t layer,
              std::span<const float> rows) {
  const size_t width = width_of(model, layer), count = rows.size() / (2 * width);
  std::vector<float> keys(count * width), values(count * width);
  for (size_t i = 0; i < count; ++i) {
    const float* row = &rows[2 * i * width];
    std::copy_n(row, width, &keys[i * width]);
    std::copy_n(row + width, width, &values[i * width]);
  }
  auto cache = std::make_unique<KvCache>(static_cast<int64_t>(width));
  cache->append(0, keys.data(), values.data(), static_cast<int64_t>(count));
  side.lent[{&model, layer}] = std::move(cache);
}

}  // namespace lewis
