// One tensor: the stored bytes of every model -> the merged bytes, on all threads. Where dtypes and
// threads meet the methods.
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

// Survey and blend. out: task.count elements of `out_dtype`, each rounded once. `with_base`: the
// last input is the base, which the method takes apart. Returns whether the result is one input's
// values unchanged. A value that is not finite, in an input or in the result, is an Error(kInput)
// that names tensor and model. The result does not depend on threads or blocks.
bool merge_tensor(const MergeMethod& method, const TensorTask& task, const TensorInputs& inputs,
                  bool with_base, DType out_dtype, TensorOutput& out, Threads& threads);

// The same in memory; base is null for methods that take none apart.
bool merge_tensor(const MergeMethod& method, const TensorTask& task, const StoredTensor* base,
                  std::span<const StoredTensor> models, DType out_dtype, std::span<std::byte> out,
                  Threads& threads);

// The survey of a tensor, and the tensor to be gone through again: for those who look at a merge
// without making it. Values that are not finite are not refused.
using Inspect = std::function<void(const Survey& survey, const ChunkPass& pass)>;
void inspect_tensor(const MergeMethod& method, const TensorTask& task, const TensorInputs& inputs,
                    bool with_base, Threads& threads, const Inspect& inspect);

// A tensor of `count` elements that no arithmetic is done on (indices, masks): all models must have
// the same bytes, else Error(kInput).
void copy_tensor(std::string_view name, int64_t count, const TensorInputs& inputs,
                 TensorOutput& out);

}  // namespace lewis
