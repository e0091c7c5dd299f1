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

// Keeps each entry with probability density, by the model's random numbers; null at density 1.
std::unique_ptr<Mask> random_mask(const ModelParameters& model);

}  // namespace lewis
