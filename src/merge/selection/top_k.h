// The exact k largest of a task vector by magnitude, in one read of the data.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
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

// Values a[i] - b[i] of a chunk, ranked by their magnitude.
struct Differences {
  const float *a, *b;
  Ahead ahead = {};  // of a
  uint32_t magnitude(size_t i) const { return magnitude_bits(a[i] - b[i]); }
};

// A chunk of zeros, to subtract where there is nothing to subtract.
inline constexpr float kZeros[kChunkElements] = {};

// Returns the values of a chunk that are ranked; `room`, of kChunkElements, and chunk.scratch are
// free to work in.
using ValueFn = std::function<Differences(const Chunk& chunk, float* room)>;

// Asks for the k largest, 1 <= k <= the tensor's elements, of values[values].
struct TopKQuery {
  size_t values = 0;
  int64_t k = 0;
};

// A sample brackets each threshold. One pass counts the magnitudes above its bracket and collects
// those inside (about 2 %). The counts prove the answer; otherwise the bracket is widened. The
// result does not depend on the number of threads. Values that several queries rank are computed
// once.
std::vector<TopK> find_top_k(const ChunkPass& pass, std::span<const ValueFn> values,
                             std::span<const TopKQuery> queries, int64_t count);

// delta = models[model] - base, or the model itself without a base.
void task_vector(const Chunk& chunk, size_t model, float* delta);
// task_vector as a ValueFn.
ValueFn task_vector_values(size_t model);
// out[i] = delta of element first + i, times the factor of its column.
void scaled_task_vector(const ColumnFactors& factors, int64_t first, const float* model,
                        const float* base, std::span<float> out);
// scaled_task_vector as a ValueFn; without factors it is task_vector_values. It refers to
// `factors`.
ValueFn scaled_task_vector_values(size_t model, const ColumnFactors* factors);

// Sets the data of elements that are not among the top k to 0. `ranked`: the values that were
// ranked, of the elements from `first` on.
void keep_top(const TopK& top, int64_t first, std::span<const float> ranked, std::span<float> data);

}  // namespace lewis
