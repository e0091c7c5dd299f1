#include "merge/tensor_merge.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/error.h"

namespace lewis {
namespace {

// Where one thread widens what it reads; handed from slot to slot.
struct Workspace {
  std::vector<float> base, out, scratch;
  std::vector<std::vector<float>> models;
  bool finite = true;  // what was widened last

  explicit Workspace(size_t model_count)
      : base(kChunkElements),
        out(kChunkElements),
        scratch(std::max<size_t>(1, model_count) * kChunkElements),
        models(model_count, std::vector<float>(kChunkElements)) {}
};

class WorkspaceList {
 public:
  explicit WorkspaceList(size_t models) : models_(models) {}

  std::unique_ptr<Workspace> take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Workspace>(models_);
    auto w = std::move(free_.back());
    free_.pop_back();
    return w;
  }
  void give_back(std::unique_ptr<Workspace> w) {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(w));
  }

 private:
  size_t models_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

// Returns whether all are finite.
LEWIS_VECTORIZED bool widen_bf16(const uint16_t* in, size_t n, float* out) {
  uint16_t bad = 0;
  for (size_t i = 0; i < n; ++i) {
    out[i] = bf16_to_float(in[i]);
    bad |= static_cast<uint16_t>((in[i] & 0x7f80) == 0x7f80);
  }
  return bad == 0;
}

LEWIS_VECTORIZED bool finite(const float* x, size_t n) {
  uint32_t bad = 0;
  for (size_t i = 0; i < n; ++i) {
    bad |= static_cast<uint32_t>((std::bit_cast<uint32_t>(x[i]) & 0x7f800000u) == 0x7f800000u);
  }
  return bad == 0;
}

// Asks for the chunk behind [at, at + bytes) while this one is worked on: chunks are too short for
// the processor to see by itself that a stream goes on.
void prefetch_next(const std::byte* at, size_t bytes) {
  for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(at + bytes + line);
}

// Elements [first, first + n) as floats: where they are if they are floats already, else widened.
std::span<const float> floats_of(const StoredTensor& tensor, int64_t first, size_t n,
                                 std::vector<float>& room, bool& all_are_finite) {
  const std::byte* at = tensor.bytes.data() + static_cast<size_t>(first) * dtype_size(tensor.dtype);
  prefetch_next(at, n * dtype_size(tensor.dtype));
  const auto address = reinterpret_cast<uintptr_t>(at);
  if (tensor.dtype == DType::kBF16 && address % alignof(uint16_t) == 0) {
    all_are_finite &= widen_bf16(reinterpret_cast<const uint16_t*>(at), n, room.data());
    return std::span<const float>(room).first(n);
  }
  std::span<const float> values(reinterpret_cast<const float*>(at), n);
  if (tensor.dtype != DType::kF32 || address % alignof(float) != 0) {
    widen(tensor.dtype, at, std::span(room).first(n));
    values = std::span<const float>(room).first(n);
  }
  all_are_finite &= finite(values.data(), n);
  return values;
}

class Pass final : public ChunkPass {
 public:
  Pass(const MergeMethod& method, const TensorTask& task, const StoredTensor* base,
       std::span<const StoredTensor> models, Threads& threads)
      : task_(task), base_(base), models_(models), threads_(threads), workspaces_(models.size()) {
    if (method.row_wise && method.row_wise(task) && task.columns() > 0) {
      slot_elements_ = std::max<int64_t>(1, kSlotElements / task.columns()) * task.columns();
    }
  }

  size_t slots() const override {
    return static_cast<size_t>((task_.count + slot_elements_ - 1) / slot_elements_);
  }
  int64_t slot_elements() const override { return slot_elements_; }
  bool has_base() const override { return base_ != nullptr; }

  void run(std::span<const size_t> slots, const See& see) const override {
    run_with_room(slots, [&](size_t slot, const Chunk& chunk, Workspace&) { see(slot, chunk); });
  }

  template <typename F>
  void run_with_room(std::span<const size_t> slots, const F& see) const {
    threads_.run(slots.size(), [&](size_t i) {
      auto room = workspaces_.take();
      Chunk chunk;
      chunk.models.resize(models_.size());
      const int64_t begin = static_cast<int64_t>(slots[i]) * slot_elements_;
      const int64_t end = std::min(task_.count, begin + slot_elements_);
      for (int64_t first = begin; first < end; first += static_cast<int64_t>(kChunkElements)) {
        fill(chunk, first, std::min<size_t>(kChunkElements, static_cast<size_t>(end - first)),
             *room);
        see(slots[i], chunk, *room);
      }
      workspaces_.give_back(std::move(room));
    });
  }

 private:
  void fill(Chunk& chunk, int64_t first, size_t n, Workspace& room) const {
    chunk.first = first;
    room.finite = true;
    if (base_) chunk.base = floats_of(*base_, first, n, room.base, room.finite);
    for (size_t m = 0; m < models_.size(); ++m) {
      chunk.models[m] = floats_of(models_[m], first, n, room.models[m], room.finite);
    }
    chunk.scratch = std::span(room.scratch).first(std::max<size_t>(1, models_.size()) * n);
  }

  int64_t slot_elements_ = kSlotElements;
  const TensorTask& task_;
  const StoredTensor* base_;
  std::span<const StoredTensor> models_;
  Threads& threads_;
  mutable WorkspaceList workspaces_;
};

void refuse_not_finite(std::span<const float> values, const TensorTask& task, int64_t first,
                       std::string_view where) {
  if (finite(values.data(), values.size())) return;
  size_t i = 0;
  while (finite(values.data() + i, 1)) ++i;
  throw input_error("{}: tensor {} is not finite (NaN or infinity) at element {}", where, task.name,
                    first + static_cast<int64_t>(i));
}

// For what only shows after a survey, which may carry a bad value to all elements or fail on it.
void refuse_inputs(const TensorTask& task, const StoredTensor* base,
                   std::span<const StoredTensor> models) {
  std::vector<float> room(kChunkElements);
  const auto check = [&](const StoredTensor& tensor) {
    for (int64_t at = 0; at < task.count; at += static_cast<int64_t>(kChunkElements)) {
      const auto n =
          static_cast<size_t>(std::min(task.count - at, static_cast<int64_t>(kChunkElements)));
      bool good = true;
      refuse_not_finite(floats_of(tensor, at, n, room, good), task, at, tensor.model);
    }
  };
  if (base) check(*base);
  for (const StoredTensor& m : models) check(m);
}

// Returns whether all results are finite.
LEWIS_VECTORIZED bool narrow_bf16(const float* in, size_t n, uint16_t* out) {
  uint16_t bad = 0;
  for (size_t i = 0; i < n; ++i) {
    const uint16_t h = float_to_bf16(in[i]);
    out[i] = h;
    bad |= static_cast<uint16_t>((h & 0x7f80) == 0x7f80);
  }
  return bad == 0;
}

LEWIS_VECTORIZED bool finite_f16(const uint16_t* x, size_t n) {
  uint16_t bad = 0;
  for (size_t i = 0; i < n; ++i) bad |= static_cast<uint16_t>((x[i] & 0x7c00) == 0x7c00);
  return bad == 0;
}

// Rounds to the output's type; false if a result is not finite there.
bool store(std::span<const float> values, DType dtype, std::byte* out) {
  if (dtype == DType::kBF16 && reinterpret_cast<uintptr_t>(out) % alignof(uint16_t) == 0) {
    return narrow_bf16(values.data(), values.size(), reinterpret_cast<uint16_t*>(out));
  }
  narrow(values, dtype, out);
  if (dtype == DType::kF32) return finite(values.data(), values.size());
  uint16_t bits[kChunkElements];
  std::memcpy(bits, out, 2 * values.size());
  if (dtype == DType::kF16) return finite_f16(bits, values.size());
  return std::none_of(bits, bits + values.size(),
                      [](uint16_t h) { return (h & 0x7f80) == 0x7f80; });
}

// Says which: an input, the result itself, or a finite result that the output's type cannot hold.
[[noreturn]] void refuse_chunk(const TensorTask& task, const StoredTensor* base,
                               std::span<const StoredTensor> models, std::span<const float> values,
                               int64_t first, DType dtype) {
  refuse_inputs(task, base, models);
  refuse_not_finite(values, task, first, "the result");
  throw input_error("tensor {}: a result near element {} is too large for {}", task.name, first,
                    dtype_torch_name(dtype));
}

}  // namespace

bool merge_tensor(const MergeMethod& method, const TensorTask& task, const StoredTensor* base,
                  std::span<const StoredTensor> models, DType out_dtype, std::span<std::byte> out,
                  Threads& threads) {
  const Pass pass(method, task, base, models, threads);
  std::unique_ptr<Survey> survey;
  try {
    survey = method.survey(task, pass);
  } catch (const Error&) {
    refuse_inputs(task, base, models);
    throw;
  }
  std::vector<size_t> slots(pass.slots());
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = i;
  pass.run_with_room(slots, [&](size_t, const Chunk& chunk, Workspace& room) {
    std::span<const float> values = std::span<const float>(room.out).first(chunk.size());
    if (survey->copy_of) {
      values = *survey->copy_of == Survey::kBaseItself
                   ? chunk.base
                   : chunk.models[static_cast<size_t>(*survey->copy_of)];
    } else {
      method.blend(task, *survey, chunk, std::span(room.out).first(chunk.size()));
    }
    const size_t size = dtype_size(out_dtype);
    std::byte* to = out.data() + static_cast<size_t>(chunk.first) * size;
    if (!store(values, out_dtype, to) || !room.finite) {
      refuse_chunk(task, base, models, values, chunk.first, out_dtype);
    }
  });
  return survey->copy_of.has_value();
}

void copy_tensor(std::string_view name, std::span<const StoredTensor> models,
                 std::span<std::byte> out) {
  for (const StoredTensor& m : models) {
    if (!std::ranges::equal(m.bytes, models[0].bytes)) {
      throw input_error(
          "tensor {} is {} and differs between {} and {}: there is no way to merge it", name,
          dtype_name(m.dtype), models[0].model, m.model);
    }
  }
  std::ranges::copy(models[0].bytes, out.begin());
}

}  // namespace lewis
