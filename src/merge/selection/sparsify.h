// Masks: which entries of a task vector are kept.
#pragma once

#include <bit>
#include <memory>
#include <span>
#include <vector>

#include "merge/method.h"
#include "merge/selection/top_k.h"

namespace lewis {

// factor * (model - base), or 0. As a mask of bits: a choice between floats becomes branches.
[[gnu::always_inline]] inline float weighted(float model, float base, bool kept, float factor) {
  const uint32_t bits = std::bit_cast<uint32_t>(model - base);
  return std::bit_cast<float>(kept ? bits : 0u) * factor;
}

// The magnitudes (as magnitude_bits has them) of everything.
constexpr uint32_t kAllMagnitudes = 0x80000000u;

// factor * (model - base) where the magnitude of the difference is from low to low + width - 1, and
// else 0.
struct MaskedDelta {
  const float *model = nullptr, *base = nullptr;
  uint32_t low = 0, width = kAllMagnitudes;
  float factor = 1;
  Ahead ahead = {};  // prefetches model
};

class Mask {
 public:
  virtual ~Mask() = default;
  // out[i] = factor * (model[i] - base[i]) where entry first + i is kept, and else 0. At most
  // kChunkElements.
  virtual void weigh(int64_t first, const float* model, const float* base, float factor,
                     std::span<float> out) const = 0;
  // Returns whether entries [first, first + n) are kept by their magnitude alone: those from low to
  // low + width - 1, as magnitude_bits has them.
  virtual bool one_range(int64_t, size_t, uint32_t& /* low */, uint32_t& /* width */) const {
    return false;
  }
  // Returns whether a BitMask of the kept entries is faster.
  virtual bool costly() const { return false; }
};

// out[i] = factor * (model[i] - base[i]).
void weigh_all(const float* model, const float* base, float factor, std::span<float> out);

// One bit for each element; at first none is kept.
class BitMask final : public Mask {
 public:
  explicit BitMask(int64_t count) : bits_(static_cast<size_t>(count / 8 + 9)) {}
  void weigh(int64_t first, const float* model, const float* base, float factor,
             std::span<float> out) const override;
  // Keeps entry first + i where flags[i] is 1 (else 0). Each entry once; from several threads.
  void keep(int64_t first, std::span<const uint8_t> flags);
  // Keeps entry first + i where values[i] is not 0.
  void keep_nonzero(int64_t first, std::span<const float> values);

 private:
  std::vector<uint8_t> bits_;  // 8 bytes more than needed can be read
};

// Keeps the int(density * count) largest entries of each model's task vector by magnitude, per
// tensor. A mask is null where it keeps everything. `models`: indices into task.models.
std::vector<std::unique_ptr<Mask>> magnitude_masks(const TensorTask& task,
                                                   std::span<const size_t> models,
                                                   const ChunkPass& pass);

// Drops the int(gamma * count) largest of each task vector and keeps the next int(density * count)
// (model breadcrumbs: Davari and Belilovsky, arXiv 2312.06795); fewer are dropped on top when both
// do not fit.
std::vector<std::unique_ptr<Mask>> outlier_masks(const TensorTask& task,
                                                 std::span<const size_t> models,
                                                 const ChunkPass& pass);

// Keeps each entry with a probability between density - epsilon and density + epsilon by the rank
// of its magnitude in its row (MAGPRUNE of DELLA: Deep et al., arXiv 2406.11617). The method must
// be row_wise. Error(kUsage) when the probabilities are not within (0, 1), unless the density is 1.
std::vector<std::unique_ptr<Mask>> ranked_masks(const TensorTask& task,
                                                std::span<const size_t> models,
                                                const ChunkPass& pass);

// Keeps each entry with probability density, by the model's random numbers; null at density 1.
std::unique_ptr<Mask> random_mask(const ModelParameters& model);

}  // namespace lewis
