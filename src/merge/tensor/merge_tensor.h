// Merges one tensor on all threads: from the stored bytes of every model to the merged bytes.
// Dtypes and threads meet the methods here.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/threads.h"
#include "merge/method.h"
#include "merge/tensor/tensor_io.h"

namespace lewis {

// Elements of a slot: the piece that one thread takes.
constexpr int64_t kSlotElements = 32 * static_cast<int64_t>(kChunkElements);

// Surveys and blends a tensor. `out` receives task.count elements of `out_dtype`, each rounded
// once. `with_base`: the last input is the base, which the method takes apart. Returns whether the
// result is the unchanged values of one input. A value that is not finite, in an input or in the
// result, is an Error(kInput) that names tensor and model. The result does not depend on threads or
// blocks.
bool merge_tensor(const MergeMethod& method, const TensorTask& task, const TensorInputs& inputs,
                  bool with_base, DType out_dtype, TensorOutput& out, Threads& threads);

// One of several merges of the same inputs, by one method.
struct TensorMerge {
  TensorTask task;
  TensorOutput* out = nullptr;
  bool copied = false;  // set by merge_tensor: the result is the unchanged values of one input
};

// As above, several at once, so that every input is read and widened once. Their tasks differ in
// parameters alone, and each has the bits that it would have alone.
void merge_tensor(const MergeMethod& method, std::span<TensorMerge> merges,
                  const TensorInputs& inputs, bool with_base, DType out_dtype, Threads& threads);

// As above, in memory; `base` is null for methods that do not take a base apart.
bool merge_tensor(const MergeMethod& method, const TensorTask& task, const StoredTensor* base,
                  std::span<const StoredTensor> models, DType out_dtype, std::span<std::byte> out,
                  Threads& threads);

// Surveys a tensor and hands the survey to `inspect`, with a pass that streams the tensor once
// more: for diagnostics, which look at a merge without making it. Values that are not finite are
// accepted.
using Inspect = std::function<void(const Survey& survey, const ChunkPass& pass)>;
void inspect_tensor(const MergeMethod& method, const TensorTask& task, const TensorInputs& inputs,
                    bool with_base, Threads& threads, const Inspect& inspect);

// Copies a tensor of `count` elements that are no numbers to merge (indices, masks) into every
// output: all models must have the same bytes, else Error(kInput).
void copy_tensor(std::string_view name, int64_t count, const TensorInputs& inputs,
                 std::span<TensorOutput* const> outs);

}  // namespace lewis
