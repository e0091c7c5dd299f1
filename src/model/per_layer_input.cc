// Gemma 4's embeddings of each layer: what the embedding of a token and a row of a table of the
// layer's own give it. Both follow from the token alone.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "model/block_weights.h"
#include "model/transformer.h"

namespace lewis {
namespace {

std::string table_name(const ModelSpec& spec) {
  return spec.prefix + "embed_tokens_per_layer.weight";
}

}  // namespace

void Transformer::check_per_layer_tensors(std::set<std::string, std::less<>>& known) const {
  const int64_t width = spec_.per_layer_width, all = spec_.layers * width;
  const auto expect = [&](const std::string& name, const Shape& shape) {
    const TensorInfo& tensor = source_.get(name);
    if (tensor.shape != shape || !is_arithmetic(tensor.dtype)) {
      throw input_error("{}: tensor {} is {} {}, expected {} of F32, F16 or BF16", source_.label(),
                        name, dtype_name(tensor.dtype), to_string(tensor.shape), to_string(shape));
    }
    known.insert(name);
  };
  expect(table_name(spec_), {spec_.per_layer_vocab, all});
  expect(spec_.prefix + "per_layer_model_projection.weight", {all, spec_.hidden});
  expect(spec_.prefix + "per_layer_projection_norm.weight", {width});
}

// What the layer gives these tokens, [ids.size(), per_layer_width].
std::vector<float> Transformer::per_layer_rows(const BlockWeights& block,
                                               std::span<const int32_t> ids) const {
  const int64_t width = spec_.per_layer_width, layer = block.steps.layer;
  const auto count = static_cast<int64_t>(ids.size());
  std::vector<float> x(ids.size() * static_cast<size_t>(spec_.hidden));
  embed_once(ids, x);
  std::vector<float> y(ids.size() * static_cast<size_t>(width));
  backend_.linear(*block.per_layer, {}, x.data(), count, y.data());
  const auto scale = [](int64_t n) { return std::sqrt(static_cast<float>(n)); };
  backend_.scale(y.data(), 1 / scale(spec_.hidden), count * width);
  const std::vector<float> weight = read_finite(spec_.prefix + "per_layer_projection_norm.weight");
  backend_.rms_norm(y.data(), count, width, weight, spec_.norm.epsilon, y.data());
  const TensorInfo& table = source_.get(table_name(spec_));
  std::vector<std::byte> stored(static_cast<size_t>(width) * dtype_size(table.dtype));
  std::vector<float> row(static_cast<size_t>(width));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= spec_.per_layer_vocab) {
      throw input_error("{}: token id {} is outside the {} rows of {}", source_.label(), ids[i],
                        spec_.per_layer_vocab, table.name);
    }
    source_.read(table, (ids[i] * spec_.layers + layer) * width, stored);
    widen(table.dtype, stored.data(), row);
    if (!std::ranges::all_of(row, [](float v) { return std::isfinite(v); })) {
      throw input_error("{}: tensor {} holds a value that is not finite (NaN or infinity)",
                        source_.label(), table.name);
    }
    float* to = &y[i * static_cast<size_t>(width)];
    for (size_t j = 0; j < row.size(); ++j)
      to[j] = (to[j] + row[j] * scale(width)) * static_cast<float>(std::sqrt(0.5));
  }
  return y;
}

void Transformer::apply_per_layer_input(const BlockWeights& block,
                                        std::span<const SequenceRows> sequences, int64_t rows,
                                        float* gate) const {
  const auto width = static_cast<size_t>(spec_.per_layer_width);
  std::map<int32_t, size_t> places;  // of the tokens among those that differ
  for (const SequenceRows& s : sequences) {
    if (!s.ids) throw failed_error("{}: this run does not keep its tokens", source_.label());
    for (int64_t i = 0; i < s.rows; ++i) places.emplace(s.ids[i], 0);
  }
  std::vector<int32_t> ids;
  for (auto& [id, place] : places) {
    place = ids.size();
    ids.push_back(id);
  }
  const std::vector<float> own = per_layer_rows(block, ids);
  std::vector<float> factor(static_cast<size_t>(rows) * width);
  for (const SequenceRows& s : sequences) {
    for (int64_t i = 0; i < s.rows; ++i)
      std::copy_n(&own[places.at(s.ids[i]) * width], width,
                  &factor[static_cast<size_t>(s.first_row + i) * width]);
  }
  backend_.activate(spec_.activation, gate, factor.data(), static_cast<int64_t>(factor.size()));
}

void Transformer::scale_stream(const BlockWeights& block, const ScaleStep& step, float* hidden,
                               int64_t n) const {
  backend_.scale(hidden, block.own[static_cast<size_t>(step.factor)].at(0), n);
}

}  // namespace lewis
