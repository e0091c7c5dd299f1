// The exact k largest of a task vector by magnitude, in one read of the data.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "merge/method.h"

namespace lewis {

// |x| as an integer that orders as |x| does.
inline uint32_t magnitude_bits(float x) { return std::bit_cast<uint32_t>(x) & 0x7fffffffu; }

// The set of the k largest: all elements above the threshold, and those equal to it whose index is
// below equal_before (of equal magnitudes the lower indices win).
struct TopK {
  uint32_t threshold = 0;  // magnitude_bits of the k-th largest
  int64_t equal_before = 0;
};

// Which k of which model: |models[model] - base|, or |models[model]| without a base. 1 <= k <= the
// tensor's elements.
struct TopKQuery {
  size_t model = 0;
  int64_t k = 0;
};

// A sample brackets each threshold; one pass counts what lies above its bracket and collects what
// lies inside (about 2 %); the counts prove the answer, else the bracket is widened. Independent of
// the number of threads.
std::vector<TopK> find_top_k(const ChunkPass& pass, std::span<const TopKQuery> queries,
                             int64_t count);

// delta = models[model] - base, or the model itself without a base.
void task_vector(const Chunk& chunk, size_t model, float* delta);

}  // namespace lewis
