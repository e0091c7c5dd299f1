// Which entries of a task vector are kept.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "merge/method.h"

namespace lewis {

class Mask {
 public:
  virtual ~Mask() = default;
  // Sets the entries [first, first + delta.size()) of the task vector that are dropped to 0.
  virtual void apply(int64_t first, std::span<float> delta) const = 0;
};

// Of each model's task vector the int(density * count) largest by magnitude, per tensor; null
// where that keeps everything. `models`: indices into task.models.
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
