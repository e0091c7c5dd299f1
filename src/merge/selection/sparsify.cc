#include "merge/selection/sparsify.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "merge/common/rows.h"
#include "merge/selection/flags.h"
#include "merge/selection/ranks.h"

namespace lewis {
namespace {

// Keeps magnitudes from low to low + width - 1.
LEWIS_VECTORIZED void weigh_range(const float* model, const float* base, uint32_t low,
                                  uint32_t width, float factor, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    const bool kept = magnitude_bits(model[i] - base[i]) - low < width;
    out[i] = weighted(model[i], base[i], kept, factor);
  }
}

LEWIS_VECTORIZED void weigh_below(const float* model, const float* base, const uint32_t* random,
                                  uint32_t bound, float factor, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = weighted(model[i], base[i], random[i] < bound, factor);
}

constexpr size_t kWord = 32;

// words: one bit for each of n elements; n is a multiple of kWord.
LEWIS_VECTORIZED void weigh_bits(const float* model, const float* base, const uint32_t* words,
                                 float factor, size_t n, float* out) {
  for (size_t first = 0; first < n; first += kWord) {
    const uint32_t word = words[first / kWord];
    for (size_t i = 0; i < kWord; ++i) {
      const bool kept = (word >> i & 1) != 0;
      out[first + i] = weighted(model[first + i], base[first + i], kept, factor);
    }
  }
}

LEWIS_VECTORIZED void flag_nonzero(const float* x, size_t n, uint8_t* flags) {
  for (size_t i = 0; i < n; ++i) flags[i] = static_cast<uint8_t>(magnitude_bits(x[i]) != 0);
}

// Where the equal elements of a set end, in [0, n] of the elements from `first` on.
int64_t cut_of(const TopK& top, int64_t first, int64_t n) {
  return std::clamp<int64_t>(top.equal_before - first, 0, n);
}

uint32_t smallest_of(const TopK& top, int64_t element) {
  return element < top.equal_before ? top.threshold : top.threshold + 1;
}

// low and width at an element of what is in `kept` but not in `dropped`.
std::pair<uint32_t, uint32_t> range_at(const TopK& dropped, const TopK& kept, int64_t element) {
  const uint32_t low = smallest_of(kept, element), end = smallest_of(dropped, element);
  return {low, end > low ? end - low : 0};
}

// Calls f(begin, end, low, width) for each part of n elements from `first` on with one range.
template <typename F>
void for_ranges(const TopK& dropped, const TopK& kept, int64_t first, size_t size, const F& f) {
  const auto n = static_cast<int64_t>(size);
  const auto [one, two] = std::minmax({cut_of(dropped, first, n), cut_of(kept, first, n)});
  const int64_t bounds[] = {0, one, two, n};
  for (size_t piece = 0; piece < 3; ++piece) {  // the smallest of each set changes at its cut
    const int64_t begin = bounds[piece], end = bounds[piece + 1];
    if (begin == end) continue;
    const auto [low, width] = range_at(dropped, kept, first + begin);
    f(static_cast<size_t>(begin), static_cast<size_t>(end), low, width);
  }
}

// The entries of `kept` that are not among `dropped`.
class RangeMask final : public Mask {
 public:
  RangeMask(const TopK& dropped, const TopK& kept) : dropped_(dropped), kept_(kept) {}

  void weigh(int64_t first, const float* model, const float* base, float factor,
             std::span<float> out) const override {
    for_ranges(dropped_, kept_, first, out.size(),
               [&](size_t begin, size_t end, uint32_t low, uint32_t width) {
                 weigh_range(model + begin, base + begin, low, width, factor, end - begin,
                             out.data() + begin);
               });
  }

  bool one_range(int64_t first, size_t size, uint32_t& low, uint32_t& width) const override {
    const auto n = static_cast<int64_t>(size);
    const auto inside = [&](int64_t at) { return at > 0 && at < n; };
    if (inside(cut_of(dropped_, first, n)) || inside(cut_of(kept_, first, n))) return false;
    std::tie(low, width) = range_at(dropped_, kept_, first);
    return true;
  }

 private:
  TopK dropped_, kept_;
};

LEWIS_VECTORIZED void weigh_ranked(const float* model, const float* base, const float* ranked,
                                   uint32_t low, uint32_t width, float factor, size_t n,
                                   float* out) {
  for (size_t i = 0; i < n; ++i) {
    const bool kept = magnitude_bits(ranked[i]) - low < width;
    out[i] = weighted(model[i], base[i], kept, factor);
  }
}

// As RangeMask, with magnitudes of the task vector times factors of its columns.
class ScaledRangeMask final : public Mask {
 public:
  ScaledRangeMask(const ColumnFactors& factors, const TopK& dropped, const TopK& kept)
      : factors_(factors), dropped_(dropped), kept_(kept) {}

  void weigh(int64_t first, const float* model, const float* base, float factor,
             std::span<float> out) const override {
    float ranked[kChunkElements];
    scaled_task_vector(factors_, first, model, base, {ranked, out.size()});
    for_ranges(dropped_, kept_, first, out.size(),
               [&](size_t begin, size_t end, uint32_t low, uint32_t width) {
                 weigh_ranked(model + begin, base + begin, ranked + begin, low, width, factor,
                              end - begin, out.data() + begin);
               });
  }

 private:
  const ColumnFactors& factors_;
  TopK dropped_, kept_;
};

std::unique_ptr<Mask> range_mask(const ModelParameters& model, const TopK& dropped,
                                 const TopK& kept) {
  if (!model.trim_factors) return std::make_unique<RangeMask>(dropped, kept);
  return std::make_unique<ScaledRangeMask>(*model.trim_factors, dropped, kept);
}

class RandomMask final : public Mask {
 public:
  explicit RandomMask(const ModelParameters& model)
      : random_(model.random),
        bound_(static_cast<uint32_t>(std::floor(model["density"] * 0x1p32))) {}

  void weigh(int64_t first, const float* model, const float* base, float factor,
             std::span<float> out) const override {
    uint32_t random[kChunkElements];
    random_.fill(static_cast<uint64_t>(first), {random, out.size()});
    weigh_below(model, base, random, bound_, factor, out.size(), out.data());
  }
  bool costly() const override { return true; }

 private:
  TensorRandom random_;
  uint32_t bound_;
};

const TopK kEverything = {0, INT64_MAX}, kNothing = {0x80000000u, 0};

}  // namespace

LEWIS_VECTORIZED static void subtract_and_scale(const float* model, const float* base, float factor,
                                                size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = (model[i] - base[i]) * factor;
}

void weigh_all(const float* model, const float* base, float factor, std::span<float> out) {
  subtract_and_scale(model, base, factor, out.size(), out.data());
}

void BitMask::weigh(int64_t first, const float* model, const float* base, float factor,
                    std::span<float> out) const {
  uint32_t words[kChunkElements / kWord + 1] = {};
  const auto at = static_cast<size_t>(first);
  for (size_t i = 0; i < out.size(); i += kWord) {
    uint64_t bits = 0;
    std::memcpy(&bits, &bits_[(at + i) / 8], 8);
    words[i / kWord] = static_cast<uint32_t>(bits >> at % 8);
  }
  const size_t whole = out.size() / kWord * kWord;
  weigh_bits(model, base, words, factor, whole, out.data());
  for (size_t i = whole; i < out.size(); ++i) {
    const bool kept = (words[i / kWord] >> i % kWord & 1) != 0;
    out[i] = weighted(model[i], base[i], kept, factor);
  }
}

void BitMask::keep(int64_t first, std::span<const uint8_t> flags) {
  // A byte may hold entries of another slot, which is another thread's.
  const auto share = [&](size_t i) {
    const size_t at = static_cast<size_t>(first) + i;
    std::atomic_ref(bits_[at / 8]).fetch_or(static_cast<uint8_t>(flags[i] << at % 8));
  };
  size_t i = 0;
  for (; i < flags.size() && (static_cast<size_t>(first) + i) % 8 != 0; ++i) share(i);
  uint8_t* bytes = bits_.data() + (static_cast<size_t>(first) + i) / 8;
  for (; i + 8 <= flags.size(); i += 8) *bytes++ = pack_flags(&flags[i]);
  for (; i < flags.size(); ++i) share(i);
}

void BitMask::keep_nonzero(int64_t first, std::span<const float> values) {
  uint8_t flags[kChunkElements];
  flag_nonzero(values.data(), values.size(), flags);
  keep(first, std::span(flags, values.size()));
}

std::vector<std::unique_ptr<Mask>> magnitude_masks(const TensorTask& task,
                                                   std::span<const size_t> models,
                                                   const ChunkPass& pass) {
  std::vector<std::unique_ptr<Mask>> masks(models.size());
  std::vector<ValueFn> values;
  std::vector<TopKQuery> queries;
  std::vector<size_t> asked;
  for (size_t i = 0; i < models.size(); ++i) {
    const double density = task.models[models[i]]["density"];
    const auto k = static_cast<int64_t>(density * static_cast<double>(task.count));
    if (k == 0) {
      masks[i] = std::make_unique<RangeMask>(kEverything, kNothing);
    } else if (k < task.count) {
      queries.push_back({values.size(), k});
      values.push_back(scaled_task_vector_values(models[i], task.models[models[i]].trim_factors));
      asked.push_back(i);
    }
  }
  const std::vector<TopK> found = find_top_k(pass, values, queries, task.count);
  for (size_t i = 0; i < asked.size(); ++i)
    masks[asked[i]] = range_mask(task.models[models[asked[i]]], kNothing, found[i]);
  return masks;
}

std::vector<std::unique_ptr<Mask>> outlier_masks(const TensorTask& task,
                                                 std::span<const size_t> models,
                                                 const ChunkPass& pass) {
  std::vector<ValueFn> values;  // the task vector of models[i]
  std::vector<TopKQuery> queries;
  const auto ask = [&](int64_t k) -> std::optional<size_t> {  // of the last of the values
    if (k <= 0 || k >= task.count) return std::nullopt;
    queries.push_back({values.size() - 1, k});
    return queries.size() - 1;
  };
  struct Plan {
    bool empty;
    std::optional<size_t> dropped, kept;  // queries
  };
  std::vector<Plan> plans;
  for (const size_t m : models) {
    const auto n = static_cast<double>(task.count);
    const auto target = static_cast<int64_t>(task.models[m]["density"] * n);
    const int64_t top =
        std::min(static_cast<int64_t>(task.models[m]["gamma"] * n), task.count - target);
    values.push_back(scaled_task_vector_values(m, task.models[m].trim_factors));
    plans.push_back({target <= 0, ask(top), ask(top + target)});
  }
  const std::vector<TopK> found = find_top_k(pass, values, queries, task.count);
  std::vector<std::unique_ptr<Mask>> masks;
  for (size_t i = 0; i < plans.size(); ++i) {
    const Plan& p = plans[i];
    if (p.empty) {
      masks.push_back(std::make_unique<RangeMask>(kEverything, kNothing));
    } else if (p.dropped || p.kept) {
      masks.push_back(range_mask(task.models[models[i]], p.dropped ? found[*p.dropped] : kNothing,
                                 p.kept ? found[*p.kept] : kEverything));
    } else {
      masks.push_back(nullptr);
    }
  }
  return masks;
}

namespace {

void check_probabilities(const TensorTask& task, const ModelParameters& m) {
  const double density = m["density"], epsilon = m["epsilon"];
  if (density - epsilon > 0 && density + epsilon < 1) return;
  throw usage_error(
      "tensor {}: density {} and epsilon {}: della keeps entries with probabilities "
      "from density - epsilon to density + epsilon, which must lie within 0 and 1",
      task.name, density, epsilon);
}

LEWIS_VECTORIZED void magnitudes_of(const float* model, const float* base, size_t n,
                                    uint32_t* magnitudes) {
  for (size_t i = 0; i < n; ++i) magnitudes[i] = magnitude_bits(model[i] - base[i]);
}

// The entries that one model keeps.
struct RankedModel {
  size_t index = 0;  // into Chunk::models
  TensorRandom random;
  std::vector<uint32_t> last;  // by rank
  BitMask* mask = nullptr;
};

// The rows of one slot and one model, one after the other.
class RowCollector {
 public:
  RowCollector(const RankedModel& model, size_t columns)
      : model_(model), magnitudes_(columns), random_(columns), keep_(columns) {}

  // Elements [first, first + n) of the tensor; they do not go beyond the row.
  void add(int64_t first, const float* model, const float* base, size_t n) {
    magnitudes_of(model, base, n, magnitudes_.data() + filled_);
    filled_ += n;
    if (filled_ < magnitudes_.size()) return;
    const int64_t begin = first + static_cast<int64_t>(n) - static_cast<int64_t>(filled_);
    model_.random.fill(static_cast<uint64_t>(begin), random_);
    decider_.decide({magnitudes_, random_, model_.last, keep_});
    model_.mask->keep(begin, keep_);
    filled_ = 0;
  }

 private:
  const RankedModel& model_;
  size_t filled_ = 0;
  std::vector<uint32_t> magnitudes_, random_;
  std::vector<uint8_t> keep_;
  RowDecider decider_;
};

void keep_by_rank(const TensorTask& task, std::span<const RankedModel> models,
                  const ChunkPass& pass) {
  SlotRooms<std::vector<RowCollector>> rooms(pass.slots());
  pass.run_all([&](size_t slot, const Chunk& chunk) {
    auto& rows = rooms.of(slot, [&] {
      std::vector<RowCollector> made;
      for (const RankedModel& m : models) made.emplace_back(m, static_cast<size_t>(task.columns()));
      return made;
    });
    for (size_t i = 0; i < models.size(); ++i) {
      const float* model = chunk.models[models[i].index].data();
      for_rows(task, chunk, [&](int64_t, size_t begin, size_t size) {
        rows[i].add(chunk.first + static_cast<int64_t>(begin), model + begin,
                    chunk.base.data() + begin, size);
      });
    }
    if (chunk_ends_slot(task, pass, chunk)) rooms.release(slot);
  });
}

}  // namespace

std::vector<std::unique_ptr<Mask>> ranked_masks(const TensorTask& task,
                                                std::span<const size_t> models,
                                                const ChunkPass& pass) {
  std::vector<std::unique_ptr<Mask>> masks(models.size());
  std::vector<RankedModel> ranked;
  for (size_t i = 0; i < models.size(); ++i) {
    const ModelParameters& m = task.models[models[i]];
    if (m["density"] >= 1) continue;
    check_probabilities(task, m);
    auto mask = std::make_unique<BitMask>(task.count);
    ranked.push_back({models[i], m.random,
                      last_kept_by_rank(task.columns(), m["density"], m["epsilon"]), mask.get()});
    masks[i] = std::move(mask);
  }
  if (!ranked.empty()) keep_by_rank(task, ranked, pass);
  return masks;
}

std::unique_ptr<Mask> random_mask(const ModelParameters& model) {
  if (model["density"] >= 1) return nullptr;
  return std::make_unique<RandomMask>(model);
}

}  // namespace lewis
