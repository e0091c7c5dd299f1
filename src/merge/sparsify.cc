#include "merge/sparsify.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <optional>
#include <utility>

#include "base/error.h"
#include "merge/rows.h"
#include "merge/top_k.h"

namespace lewis {
namespace {

LEWIS_VECTORIZED void keep_below(uint32_t bound, const uint32_t* random, size_t n, float* delta) {
  for (size_t i = 0; i < n; ++i) {
    delta[i] = std::bit_cast<float>(random[i] < bound ? std::bit_cast<uint32_t>(delta[i]) : 0u);
  }
}

class MagnitudeMask final : public Mask {
 public:
  explicit MagnitudeMask(const TopK& top) : top_(top) {}
  void apply(int64_t first, std::span<float> delta) const override {
    keep_top(top_, first, delta, delta);
  }

 private:
  TopK top_;
};

// Those of `kept` (unset: all) that are not among `dropped` (unset: none).
class OutlierMask final : public Mask {
 public:
  OutlierMask(std::optional<TopK> dropped, std::optional<TopK> kept)
      : dropped_(dropped), kept_(kept) {}
  void apply(int64_t first, std::span<float> delta) const override {
    float largest[kChunkElements] = {};
    if (dropped_) {
      std::copy(delta.begin(), delta.end(), largest);
      keep_top(*dropped_, first, delta, std::span(largest, delta.size()));
    }
    if (kept_) keep_top(*kept_, first, delta, delta);
    for (size_t i = 0; i < delta.size(); ++i) delta[i] = largest[i] != 0 ? 0.0f : delta[i];
  }

 private:
  std::optional<TopK> dropped_, kept_;
};

// One bit for each element.
class BitMask final : public Mask {
 public:
  explicit BitMask(int64_t count) : kept_(static_cast<size_t>((count + 7) / 8)) {}
  uint8_t* bits() { return kept_.data(); }
  void apply(int64_t first, std::span<float> delta) const override {
    for (size_t i = 0; i < delta.size(); ++i) {
      const auto at = static_cast<size_t>(first) + i;
      delta[i] = kept_[at / 8] >> (at % 8) & 1 ? delta[i] : 0.0f;
    }
  }

 private:
  std::vector<uint8_t> kept_;
};

class RandomMask final : public Mask {
 public:
  explicit RandomMask(const ModelParameters& model)
      : random_(model.random), bound_(static_cast<uint32_t>(std::floor(model.density * 0x1p32))) {}

  void apply(int64_t first, std::span<float> delta) const override {
    uint32_t random[kChunkElements];
    random_.fill(static_cast<uint64_t>(first), {random, delta.size()});
    keep_below(bound_, random, delta.size(), delta.data());
  }

 private:
  TensorRandom random_;
  uint32_t bound_;
};

class EmptyMask final : public Mask {
 public:
  void apply(int64_t, std::span<float> delta) const override {
    std::fill(delta.begin(), delta.end(), 0.0f);
  }
};

}  // namespace

std::vector<std::unique_ptr<Mask>> magnitude_masks(const TensorTask& task,
                                                   std::span<const size_t> models,
                                                   const ChunkPass& pass) {
  std::vector<std::unique_ptr<Mask>> masks(models.size());
  std::vector<TopKQuery> queries;
  std::vector<size_t> asked;
  for (size_t i = 0; i < models.size(); ++i) {
    const double density = task.models[models[i]].density;
    const auto k = static_cast<int64_t>(density * static_cast<double>(task.count));
    if (k == 0) {
      masks[i] = std::make_unique<EmptyMask>();
    } else if (k < task.count) {
      queries.push_back({task_vector_values(models[i]), k});
      asked.push_back(i);
    }
  }
  const std::vector<TopK> found = find_top_k(pass, queries, task.count);
  for (size_t i = 0; i < asked.size(); ++i)
    masks[asked[i]] = std::make_unique<MagnitudeMask>(found[i]);
  return masks;
}

std::vector<std::unique_ptr<Mask>> outlier_masks(const TensorTask& task,
                                                 std::span<const size_t> models,
                                                 const ChunkPass& pass) {
  std::vector<TopKQuery> queries;
  const auto ask = [&](size_t model, int64_t k) -> std::optional<size_t> {
    if (k <= 0 || k >= task.count) return std::nullopt;
    queries.push_back({task_vector_values(model), k});
    return queries.size() - 1;
  };
  struct Plan {
    bool empty;
    std::optional<size_t> dropped, kept;  // queries
  };
  std::vector<Plan> plans;
  for (const size_t m : models) {
    const auto n = static_cast<double>(task.count);
    const auto target = static_cast<int64_t>(task.models[m].density * n);
    const int64_t top =
        std::min(static_cast<int64_t>(task.models[m].gamma * n), task.count - target);
    plans.push_back({target <= 0, ask(m, top), ask(m, top + target)});
  }
  const std::vector<TopK> found = find_top_k(pass, queries, task.count);
  const auto of = [&](std::optional<size_t> query) {
    return query ? std::optional(found[*query]) : std::nullopt;
  };
  std::vector<std::unique_ptr<Mask>> masks;
  for (const Plan& p : plans) {
    if (p.empty) {
      masks.push_back(std::make_unique<EmptyMask>());
    } else if (p.dropped || p.kept) {
      masks.push_back(std::make_unique<OutlierMask>(of(p.dropped), of(p.kept)));
    } else {
      masks.push_back(nullptr);
    }
  }
  return masks;
}

namespace {

// The order of a row by magnitude, equal ones by index: radix sort of (magnitude, index) pairs.
class RowRanks {
 public:
  // ranks[i]: how many of the row come before element i.
  void compute(std::span<const float> row, std::vector<uint32_t>& ranks) {
    const size_t n = row.size();
    keys_.resize(n);
    other_.resize(n);
    for (size_t i = 0; i < n; ++i)
      keys_[i] = static_cast<uint64_t>(magnitude_bits(row[i])) << 32 | i;
    for (const int shift : {32, 43, 54}) sort_by(shift);
    ranks.resize(n);
    for (size_t r = 0; r < n; ++r)
      ranks[static_cast<uint32_t>(keys_[r])] = static_cast<uint32_t>(r);
  }

 private:
  void sort_by(int shift) {
    std::array<uint32_t, 2048> begin{};
    for (const uint64_t key : keys_) ++begin[key >> shift & 2047];
    uint32_t at = 0;
    for (uint32_t& b : begin) at += std::exchange(b, at);
    for (const uint64_t key : keys_) other_[begin[key >> shift & 2047]++] = key;
    keys_.swap(other_);
  }

  std::vector<uint64_t> keys_, other_;
};

void check_probabilities(const TensorTask& task, const ModelParameters& m) {
  if (m.density - m.epsilon > 0 && m.density + m.epsilon < 1) return;
  throw usage_error(
      "tensor {}: density {} and epsilon {}: della keeps entries with probabilities "
      "from density - epsilon to density + epsilon, which must lie within 0 and 1",
      task.name, m.density, m.epsilon);
}

// Rows of one slot: collected chunk by chunk, ranked when they are whole.
class RowCollector {
 public:
  RowCollector(const TensorTask& task, const ModelParameters& model, uint8_t* bits)
      : task_(task), model_(model), bits_(bits) {}

  void add(int64_t first, std::span<const float> delta) {
    if (row_.empty()) begin_ = first;
    row_.insert(row_.end(), delta.begin(), delta.end());
    if (static_cast<int64_t>(row_.size()) == task_.columns()) finish();
  }

 private:
  void finish() {
    ranks_.compute(row_, rank_);
    std::vector<uint32_t> random(row_.size());
    model_.random.fill(static_cast<uint64_t>(begin_), random);
    const double last = static_cast<double>(row_.size()) - 1;
    for (size_t i = 0; i < row_.size(); ++i) {
      const double place = last > 0 ? rank_[i] / last : 0.5;
      const double p = model_.density - model_.epsilon + 2 * model_.epsilon * place;
      const auto at = static_cast<size_t>(begin_) + i;
      const bool kept = random[i] < p * 0x1p32;
      // Rows of one slot are one thread's, but a byte may be shared with the next slot's.
      if (kept) std::atomic_ref(bits_[at / 8]).fetch_or(static_cast<uint8_t>(1u << (at % 8)));
    }
    row_.clear();
  }

  const TensorTask& task_;
  const ModelParameters& model_;
  uint8_t* bits_;
  int64_t begin_ = 0;
  std::vector<float> row_;
  std::vector<uint32_t> rank_;
  RowRanks ranks_;
};

}  // namespace

std::vector<std::unique_ptr<Mask>> ranked_masks(const TensorTask& task,
                                                std::span<const size_t> models,
                                                const ChunkPass& pass) {
  std::vector<std::unique_ptr<Mask>> masks;
  std::vector<BitMask*> wanted;
  for (const size_t m : models) {
    const bool whole = task.models[m].density >= 1;
    if (!whole) check_probabilities(task, task.models[m]);
    auto mask = whole ? nullptr : std::make_unique<BitMask>(task.count);
    wanted.push_back(mask.get());
    masks.push_back(std::move(mask));
  }
  std::vector<std::vector<RowCollector>> collectors(pass.slots());
  pass.run_all([&](size_t slot, const Chunk& chunk) {
    auto& mine = collectors[slot];
    if (mine.empty()) {
      for (size_t i = 0; i < models.size(); ++i) {
        mine.emplace_back(task, task.models[models[i]], wanted[i] ? wanted[i]->bits() : nullptr);
      }
    }
    float delta[kChunkElements];
    for (size_t i = 0; i < models.size(); ++i) {
      if (!wanted[i]) continue;
      task_vector(chunk, models[i], delta);
      for_rows(task, chunk, [&](int64_t, size_t begin, size_t size) {
        mine[i].add(chunk.first + static_cast<int64_t>(begin),
                    std::span(delta).subspan(begin, size));
      });
    }
    const int64_t end = chunk.first + static_cast<int64_t>(chunk.size());
    if (end % std::max<int64_t>(1, pass.slot_elements()) == 0 || end == task.count) mine.clear();
  });
  return masks;
}

std::unique_ptr<Mask> random_mask(const ModelParameters& model) {
  if (model.density >= 1) return nullptr;
  return std::make_unique<RandomMask>(model);
}

}  // namespace lewis
