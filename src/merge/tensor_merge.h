// One tensor: the stored bytes of every model -> the merged bytes, on all threads. Where dtypes and
// threads meet the methods.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/threads.h"
#include "merge/method.h"

namespace lewis {

// Elements of a slot: the piece that one thread takes.
constexpr int64_t kSlotElements = 32 * static_cast<int64_t>(kChunkElements);

// A whole tensor of one model, as stored.
struct StoredTensor {
  DType dtype = DType::kF32;  // F32, F16 or BF16, but for copy_tensor
  std::span<const std::byte> bytes;
  std::string_view model;  // for messages
};

// Survey and blend. out: task.count elements of `out_dtype`, each rounded once. base is null for
// methods that take none apart. Returns whether the result is one input's values unchanged. A value
// that is not finite, in an input or in the result, is an Error(kInput) that names tensor and
// model.
bool merge_tensor(const MergeMethod& method, const TensorTask& task, const StoredTensor* base,
                  std::span<const StoredTensor> models, DType out_dtype, std::span<std::byte> out,
                  Threads& threads);

// A tensor that no arithmetic is done on (indices, masks): all models must have the same bytes,
// else Error(kInput).
void copy_tensor(std::string_view name, std::span<const StoredTensor> models,
                 std::span<std::byte> out);

}  // namespace lewis
