#include "merge/sources/adapter_factors.h"

#include <algorithm>

namespace lewis {
namespace {

using Entry = SafetensorsFile::Entry;

// Calls f with the values of a tensor in order, a piece at a time.
template <typename F>
void for_values(const SafetensorsFile& file, const Entry& entry, const F& f) {
  constexpr size_t kPiece = 1 << 16;
  const DType dtype = entry.info.dtype;
  const auto count = static_cast<size_t>(element_count(entry.info.shape));
  std::vector<std::byte> bytes(std::min(count, kPiece) * dtype_size(dtype));
  std::vector<float> values(std::min(count, kPiece));
  for (size_t at = 0; at < count; at += kPiece) {
    const size_t n = std::min(kPiece, count - at);
    file.read(entry, at * dtype_size(dtype), std::span(bytes).first(n * dtype_size(dtype)));
    widen(dtype, bytes.data(), std::span(values).first(n));
    f(std::span<const float>(values).first(n));
  }
}

uint64_t values_of(const Entry* entry) {
  return entry ? static_cast<uint64_t>(element_count(entry->info.shape)) : 0;
}

LowRank read_matrix_factors(const SafetensorsFile& file, const FactorPlaces& places) {
  const int64_t rank = places.rank;
  std::vector<float> left = read_values(file, *places.b);  // [out, rank]
  if (!places.a) return make_low_rank(std::vector<float>{1}, left, rank, places.scale);
  std::vector<float> right = read_values(file, *places.a);  // [rank, in]
  const int64_t in = static_cast<int64_t>(right.size()) / rank,
                out = static_cast<int64_t>(left.size()) / rank;
  if (places.mlx) {
    right = transposed(right, in, rank);
    left = transposed(left, rank, out);
  }
  if (places.misreading == Misreading::kOtherLayout) left = transposed(left, rank, out);
  if (places.misreading == Misreading::kTransposed && in == out) {
    const std::vector<float> turned = transposed(right, rank, in);
    right = transposed(left, out, rank);
    left = turned;
  }
  if (places.outputs_are_columns) {
    return make_low_rank(transposed(right, rank, in), transposed(left, out, rank), rank,
                         places.scale);
  }
  return make_low_rank(left, right, rank, places.scale);
}

}  // namespace

std::vector<float> read_values(const SafetensorsFile& file, const Entry& entry) {
  std::vector<float> all;
  all.reserve(static_cast<size_t>(element_count(entry.info.shape)));
  for_values(file, entry,
             [&](auto values) { all.insert(all.end(), values.begin(), values.end()); });
  return all;
}

bool values_are_finite(const SafetensorsFile& file, const Entry& entry) {
  bool finite = true;
  for_values(file, entry, [&](auto values) { finite = finite && all_finite(values); });
  return finite;
}

std::vector<std::vector<LowRank>> read_factors(const SafetensorsFile& file,
                                               const FactorPlaces& places) {
  std::vector<std::vector<LowRank>> products;
  if (!places.experts) {
    products.emplace_back().push_back(read_matrix_factors(file, places));
    return products;
  }
  const WrappedParameter& experts = *places.experts;
  const std::vector<float> a = read_values(file, *places.a);
  std::vector<float> b = read_values(file, *places.b);  // [outputs, rank, experts]
  if (places.misreading == Misreading::kOtherLayout)
    b = with_experts_first(b, places.rank, experts.experts);
  for (const WrappedParameter::Part& part : experts.parts) {
    products.push_back(
        expert_factors(experts, part, a, b, places.rank, places.scale, places.inputs_are_rows));
  }
  return products;
}

std::shared_ptr<const std::vector<LowRank>> FactorCache::get(const FactorPlaces& places,
                                                             size_t part) const {
  std::shared_ptr<Module> module;
  {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::ranges::find_if(modules_, [&](const auto& kept) { return kept->places == &places; });
    if (found != modules_.end()) {
      modules_.splice(modules_.begin(), modules_, found);
    } else {
      if (modules_.size() == kKept) modules_.pop_back();
      modules_.push_front(std::make_shared<Module>());
      modules_.front()->places = &places;
    }
    module = modules_.front();
  }
  std::call_once(module->once, [&] { module->products = read_factors(*file_, places); });
  return {module, &module->products[part]};
}

uint64_t FactorCache::memory(const FactorPlaces& places) {
  const auto rank = static_cast<uint64_t>(places.rank), padded = (rank + 7) / 8 * 8;
  const uint64_t stored = values_of(places.a) + values_of(places.b);
  uint64_t held = 0;
  if (places.experts) {
    for (const WrappedParameter::Part& part : places.experts->parts)
      held += static_cast<uint64_t>(part.experts * (part.rows + places.experts->columns)) * padded;
  } else {
    held = (stored / rank + (places.a ? 0 : 1)) * padded;
  }
  // While the last module is read, its values are held as they are stored, too.
  return (kKept * held + stored) * sizeof(float);
}

}  // namespace lewis
