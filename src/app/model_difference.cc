#include "app/model_difference.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "io/layer_name.h"

namespace lewis {

std::string ModelDifference::name_of(const std::pair<std::string, int64_t>& layer) const {
  if (layer.second < 0) return "outside";
  std::set<std::string_view> stacks;
  for (const auto& [place, _] : layers) {
    if (place.second >= 0) stacks.insert(place.first);
  }
  return (stacks.size() > 1 ? layer.first : "") + std::to_string(layer.second);
}

ModelDifference compare_models(const TensorSource& a, const TensorSource& b, Threads& threads,
                               const ProgressFn& progress) {
  ModelDifference d;
  Progress told{"comparing", "tensors", 0, a.tensors().size()};
  for (const TensorInfo& t : b.tensors()) {
    if (!a.find(t.name)) d.only_b.push_back(t.name);
  }
  for (const TensorInfo& t : a.tensors()) {
    const TensorInfo* other = b.find(t.name);
    ++told.done;
    if (!other) {
      d.only_a.push_back(t.name);
    } else if (other->shape == t.shape && other->dtype == t.dtype && !is_arithmetic(t.dtype)) {
      d.by_bytes.push_back(fmt::format("{}: {} {}: {}", t.name, dtype_name(t.dtype),
                                       to_string(t.shape),
                                       same_bytes(a, b, t.name) ? "equal" : "different"));
    } else if (other->shape != t.shape || !is_arithmetic(t.dtype) || !is_arithmetic(other->dtype)) {
      d.not_compared.push_back(fmt::format("{}: {} {} and {} {}", t.name, dtype_name(t.dtype),
                                           to_string(t.shape), dtype_name(other->dtype),
                                           to_string(other->shape)));
    } else {
      const TensorDifference found = compare_tensors(a, b, t.name, 0, threads);
      d.tensors.push_back({t.name, found});
      const LayerName name = split_layer(t.name);
      d.layers[{name.layer ? std::string(name.prefix) : "", name.layer.value_or(-1)}] += found;
      d.all += found;
    }
    if (progress) progress(told);
  }
  std::stable_sort(d.tensors.begin(), d.tensors.end(), [](const auto& x, const auto& y) {
    return x.difference.relative() > y.difference.relative();
  });
  return d;
}

}  // namespace lewis
