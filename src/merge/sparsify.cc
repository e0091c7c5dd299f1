#include "merge/sparsify.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "merge/top_k.h"

namespace lewis {
namespace {

LEWIS_VECTORIZED void keep_from(uint32_t smallest, size_t n, float* delta) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(delta[i]);
    delta[i] = std::bit_cast<float>((bits & 0x7fffffffu) >= smallest ? bits : 0u);
  }
}

LEWIS_VECTORIZED void keep_below(uint32_t bound, const uint32_t* random, size_t n, float* delta) {
  for (size_t i = 0; i < n; ++i) {
    delta[i] = std::bit_cast<float>(random[i] < bound ? std::bit_cast<uint32_t>(delta[i]) : 0u);
  }
}

class MagnitudeMask final : public Mask {
 public:
  explicit MagnitudeMask(const TopK& top) : top_(top) {}

  void apply(int64_t first, std::span<float> delta) const override {
    const auto size = static_cast<int64_t>(delta.size());
    const auto with_equal =
        static_cast<size_t>(std::clamp<int64_t>(top_.equal_before - first, 0, size));
    keep_from(top_.threshold, with_equal, delta.data());
    keep_from(top_.threshold + 1, delta.size() - with_equal, delta.data() + with_equal);
  }

 private:
  TopK top_;
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
      queries.push_back({models[i], k});
      asked.push_back(i);
    }
  }
  const std::vector<TopK> found = find_top_k(pass, queries, task.count);
  for (size_t i = 0; i < asked.size(); ++i)
    masks[asked[i]] = std::make_unique<MagnitudeMask>(found[i]);
  return masks;
}

std::unique_ptr<Mask> random_mask(const ModelParameters& model) {
  if (model.density >= 1) return nullptr;
  return std::make_unique<RandomMask>(model);
}

}  // namespace lewis
