#include "merge/tensor/merge_tensor.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>

#include "base/error.h"

namespace lewis {
namespace {

// Where a thread widens what it reads. Vectors of 64 bytes that lie across two cache lines would
// take twice as long.
class Workspace {
 public:
  bool finite = true;  // what was widened last, where that was looked at

  // The calling thread's.
  static Workspace& prepare(size_t models, size_t results) {
    thread_local Workspace workspace;
    workspace.models_ = models;
    workspace.results_ = results;
    const size_t rows = 1 + results + 2 * models + 1;
    if (workspace.rows_.size() < rows) workspace.rows_.resize(rows);
    return workspace;
  }
  std::span<float> base() { return rows_[0].values; }
  // [results, n], without gaps.
  std::span<float> results(size_t n) { return {rows_[1].values, results_ * n}; }
  std::span<float> model(size_t m) { return rows_[1 + results_ + m].values; }
  // [max(1, models), n], without gaps.
  std::span<float> scratch(size_t n) {
    return {rows_[1 + results_ + models_].values, std::max<size_t>(1, models_) * n};
  }

 private:
  struct alignas(64) Row {
    float values[kChunkElements];
  };
  std::vector<Row> rows_;  // base, results, models, scratch
  size_t models_ = 0, results_ = 1;
};

LEWIS_VECTORIZED void widen_bf16(const uint16_t* in, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = bf16_to_float(in[i]);
}

// Returns whether all are finite.
LEWIS_VECTORIZED bool widen_finite_bf16(const uint16_t* in, size_t n, float* out) {
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

// The prefetching of what follows elements [first, first + n).
Ahead ahead_of(const StoredTensor& tensor, int64_t first, size_t n) {
  const size_t bytes = dtype_size(tensor.dtype);
  return {tensor.bytes.data() + (static_cast<size_t>(first) + n) * bytes, bytes};
}

// Elements [first, first + n) as floats: where they are if they are floats already, else widened.
// Where asked, all_are_finite becomes false if one is not.
std::span<const float> floats_of(const StoredTensor& tensor, int64_t first, size_t n,
                                 std::span<float> room, bool* all_are_finite) {
  const std::byte* at = tensor.bytes.data() + static_cast<size_t>(first) * dtype_size(tensor.dtype);
  const auto address = reinterpret_cast<uintptr_t>(at);
  if (tensor.dtype == DType::kBF16 && address % alignof(uint16_t) == 0) {
    const auto* values = reinterpret_cast<const uint16_t*>(at);
    if (!all_are_finite) {
      widen_bf16(values, n, room.data());
    } else if (!widen_finite_bf16(values, n, room.data())) {
      *all_are_finite = false;
    }
    return room.first(n);
  }
  std::span<const float> values(reinterpret_cast<const float*>(at), n);
  if (tensor.dtype != DType::kF32 || address % alignof(float) != 0) {
    widen(tensor.dtype, at, room.first(n));
    values = room.first(n);
  }
  if (all_are_finite && !finite(values.data(), n)) *all_are_finite = false;
  return values;
}

// The inputs of a range; the base apart.
struct RangeView {
  int64_t first = 0;
  const StoredTensor* base = nullptr;
  std::span<const StoredTensor> models;
};

class Pass final : public ChunkPass {
 public:
  // `results`: how many merges are made at once.
  Pass(const MergeMethod& method, const TensorTask& task, const TensorInputs& inputs,
       bool with_base, Threads& threads, size_t results = 1)
      : task_(task), inputs_(inputs), with_base_(with_base), threads_(threads), results_(results) {
    if (method.row_wise && method.row_wise(task) && task.columns() > 0) {
      slot_elements_ = std::max<int64_t>(1, kSlotElements / task.columns()) * task.columns();
    }
  }

  size_t slots() const override {
    return static_cast<size_t>((task_.count + slot_elements_ - 1) / slot_elements_);
  }
  int64_t slot_elements() const override { return slot_elements_; }
  bool has_base() const override { return with_base_; }
  Threads& threads() const override { return threads_; }

  void run(std::span<const size_t> slots, const See& see) const override {
    const std::vector<Window> windows = windows_of(slots);
    std::vector<ElementRange> ranges;
    for (const Window& w : windows) ranges.push_back(w.range);
    size_t at = 0;
    inputs_.visit(ranges, [&](const ElementRange& range, std::span<const StoredTensor> stored) {
      run_window(view_of(range, stored), windows[at++].slots, Check::kNothing,
                 [&](size_t slot, const Chunk& chunk, Workspace&) { see(slot, chunk); });
    });
  }

  // All of it: `each` gets every range with a function that runs its slots.
  template <typename Each>
  void run_ranges(const Each& each) const {
    std::vector<size_t> all(slots());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    const std::vector<Window> windows = windows_of(all);
    std::vector<ElementRange> ranges;
    for (const Window& w : windows) ranges.push_back(w.range);
    size_t at = 0;
    inputs_.visit(ranges, [&](const ElementRange& range, std::span<const StoredTensor> stored) {
      const Window& window = windows[at++];
      each(range, [&](const auto& see) {
        run_window(view_of(range, stored), window.slots, Check::kFinite, see);
      });
    });
  }

 private:
  // A survey need not look: what is not finite is found when it is blended.
  enum class Check { kNothing, kFinite };

  // Slots that are read together, and the elements that hold them.
  struct Window {
    ElementRange range;
    std::span<const size_t> slots;
  };

  // Runs of consecutive slots of at most a block each; one window where all is in memory.
  std::vector<Window> windows_of(std::span<const size_t> slots) const {
    if (slots.empty()) return {};
    if (inputs_.block_elements() == 0) return {{{0, task_.count}, slots}};
    const auto most =
        static_cast<size_t>(std::max<int64_t>(1, inputs_.block_elements() / slot_elements_));
    std::vector<Window> windows;
    for (size_t i = 0; i < slots.size();) {
      size_t end = i + 1;
      while (end < slots.size() && slots[end] == slots[end - 1] + 1 && end - i < most) ++end;
      const int64_t first = static_cast<int64_t>(slots[i]) * slot_elements_;
      const int64_t last =
          std::min(task_.count, static_cast<int64_t>(slots[end - 1] + 1) * slot_elements_);
      windows.push_back({{first, last - first}, slots.subspan(i, end - i)});
      i = end;
    }
    return windows;
  }

  RangeView view_of(const ElementRange& range, std::span<const StoredTensor> stored) const {
    return {range.first, with_base_ ? &stored.back() : nullptr,
            stored.first(stored.size() - (with_base_ ? 1 : 0))};
  }

  template <typename F>
  void run_window(const RangeView& view, std::span<const size_t> slots, Check check,
                  const F& see) const {
    threads_.run(slots.size(), [&](size_t i) {
      Workspace& room = Workspace::prepare(view.models.size(), results_);
      Chunk chunk;
      chunk.models.resize(view.models.size());
      chunk.ahead.resize(view.models.size());
      const int64_t begin = static_cast<int64_t>(slots[i]) * slot_elements_;
      const int64_t end = std::min(task_.count, begin + slot_elements_);
      for (int64_t first = begin; first < end; first += static_cast<int64_t>(kChunkElements)) {
        fill(view, chunk, first, std::min<size_t>(kChunkElements, static_cast<size_t>(end - first)),
             check, room);
        see(slots[i], chunk, room);
        // For the next it is too late.
        for (const Ahead& ahead : chunk.ahead) ahead.ask(chunk.size(), 2 * chunk.size());
      }
    });
  }

  static void fill(const RangeView& view, Chunk& chunk, int64_t first, size_t n, Check check,
                   Workspace& room) {
    chunk.first = first;
    room.finite = true;
    bool* finite = check == Check::kFinite ? &room.finite : nullptr;
    const int64_t at = first - view.first;
    if (view.base) {
      ahead_of(*view.base, at, n).ask(0, n);
      chunk.base = floats_of(*view.base, at, n, room.base(), finite);
    }
    for (size_t m = 0; m < view.models.size(); ++m) {
      chunk.ahead[m] = ahead_of(view.models[m], at, n);
      chunk.models[m] = floats_of(view.models[m], at, n, room.model(m), finite);
    }
    chunk.scratch = room.scratch(n);
  }

  int64_t slot_elements_ = kSlotElements;
  const TensorTask& task_;
  const TensorInputs& inputs_;
  bool with_base_;
  Threads& threads_;
  size_t results_;
};

// The first value that is not finite; there is one.
int64_t first_not_finite(std::span<const float> values) {
  size_t i = 0;
  while (finite(values.data() + i, 1)) ++i;
  return static_cast<int64_t>(i);
}

[[noreturn]] void refuse_element(const TensorTask& task, int64_t element, std::string_view where) {
  throw input_error("{}: tensor {} is not finite (NaN or infinity) at element {}", where, task.name,
                    element);
}

// For what only shows after a survey, which may carry a bad value to all elements or fail on it.
void refuse_inputs(const TensorTask& task, const TensorInputs& inputs) {
  std::vector<float> room(kChunkElements);
  const auto check = [&](const StoredTensor& tensor, const ElementRange& range) {
    for (const ElementRange& part : ranges_of(range.count, kChunkElements)) {
      bool good = true;
      const auto values =
          floats_of(tensor, part.first, static_cast<size_t>(part.count), room, &good);
      if (!good)
        refuse_element(task, range.first + part.first + first_not_finite(values), tensor.model);
    }
  };
  const auto ranges = ranges_of(task.count, inputs.block_elements());
  inputs.visit(ranges, [&](const ElementRange& range, std::span<const StoredTensor> stored) {
    for (const StoredTensor& s : stored) check(s, range);
  });
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

// A chunk whose result cannot be stored.
struct BadChunk {
  int64_t first = 0;
  const TensorTask* task = nullptr;
  std::optional<int64_t> element;  // of the result, that is not finite
};

// out = base + (values - base) * the factor of the column; bit for bit what it is where the factor
// is 1 or the difference 0. `out` may be `values`.
void relax(const ColumnFactors& factors, const Chunk& chunk, std::span<const float> values,
           std::span<float> out) {
  float room[kChunkElements];
  factors.fill(chunk.first, {room, out.size()});
  for (size_t i = 0; i < out.size(); ++i) {
    const float difference = values[i] - chunk.base[i];
    const bool stays = room[i] == 1 || difference == 0;
    out[i] = stays ? values[i] : chunk.base[i] + difference * room[i];
  }
}

// The merges that are made of one tensor's inputs at once.
class Blend {
 public:
  Blend(const MergeMethod& method, std::span<TensorMerge> merges, const ChunkPass& pass)
      : method_(method), merges_(merges) {
    for (const TensorMerge& m : merges) owned_.push_back(method.survey(m.task, pass));
    for (const auto& survey : owned_) surveys_.push_back(survey.get());
  }

  // Blends the slots of one range into every output.
  template <typename RunSlots>
  void run(DType dtype, const ElementRange& range, const RunSlots& run_slots) const {
    std::vector<std::byte*> to;
    for (const TensorMerge& m : merges_) to.push_back(m.out->begin(range).data());
    std::mutex mutex;
    std::optional<BadChunk> bad;
    run_slots([&](size_t, const Chunk& chunk, Workspace& room) {
      const std::span<float> results = room.results(chunk.size());
      const bool together = surveys_.size() > 1 && method_.blend_all;
      if (together) method_.blend_all(surveys_, chunk, results);
      const size_t at = static_cast<size_t>(chunk.first - range.first) * dtype_size(dtype);
      for (size_t k = 0; k < surveys_.size(); ++k) {
        const auto values =
            finished(k, chunk, results.subspan(k * chunk.size(), chunk.size()), together);
        if (store(values, dtype, to[k] + at) && room.finite) continue;
        std::lock_guard lock(mutex);
        if (bad && bad->first <= chunk.first) continue;
        bad = {chunk.first, &merges_[k].task, std::nullopt};
        if (!finite(values.data(), values.size()))
          bad->element = chunk.first + first_not_finite(values);
      }
    });
    if (bad) throw *bad;  // what is wrong is looked for when nothing is being read
    for (const TensorMerge& m : merges_) m.out->end();
  }

  void note_copies() const {
    for (size_t k = 0; k < merges_.size(); ++k)
      merges_[k].copied = surveys_[k]->copy_of.has_value() && !merges_[k].task.relaxation;
  }

 private:
  // The values of one result. `blended`: they are in `out` already, unless they are a copy.
  std::span<const float> finished(size_t k, const Chunk& chunk, std::span<float> out,
                                  bool blended) const {
    const TensorTask& task = merges_[k].task;
    std::span<const float> values = out;
    if (const auto copy = surveys_[k]->copy_of) {
      values = *copy == Survey::kBaseItself ? chunk.base : chunk.models[static_cast<size_t>(*copy)];
    } else if (!blended) {
      method_.blend(task, *surveys_[k], chunk, out);
    }
    if (!task.relaxation) return values;
    relax(*task.relaxation, chunk, values, out);
    return out;
  }

  const MergeMethod& method_;
  std::span<TensorMerge> merges_;
  std::vector<std::unique_ptr<Survey>> owned_;
  std::vector<const Survey*> surveys_;
};

// Says which: an input, the result itself, or a finite result that the output's type cannot hold.
[[noreturn]] void refuse_chunk(const TensorInputs& inputs, const BadChunk& bad, DType dtype) {
  const TensorTask& task = *bad.task;
  refuse_inputs(task, inputs);
  if (bad.element) refuse_element(task, *bad.element, task.result);
  throw input_error("tensor {}: a result near element {} is too large for {}", task.name, bad.first,
                    dtype_torch_name(dtype));
}

}  // namespace

void merge_tensor(const MergeMethod& method, std::span<TensorMerge> merges,
                  const TensorInputs& inputs, bool with_base, DType out_dtype, Threads& threads) {
  const TensorTask& any = merges[0].task;
  const Pass pass(method, any, inputs, with_base, threads, merges.size());
  std::optional<Blend> blend;
  try {
    blend.emplace(method, merges, pass);
  } catch (const Error&) {
    refuse_inputs(any, inputs);
    throw;
  }
  try {
    pass.run_ranges([&](const ElementRange& range, const auto& run_slots) {
      blend->run(out_dtype, range, run_slots);
    });
  } catch (const BadChunk& bad) {
    refuse_chunk(inputs, bad, out_dtype);
  }
  blend->note_copies();
}

bool merge_tensor(const MergeMethod& method, const TensorTask& task, const TensorInputs& inputs,
                  bool with_base, DType out_dtype, TensorOutput& out, Threads& threads) {
  TensorMerge one{task, &out};
  merge_tensor(method, {&one, 1}, inputs, with_base, out_dtype, threads);
  return one.copied;
}

bool merge_tensor(const MergeMethod& method, const TensorTask& task, const StoredTensor* base,
                  std::span<const StoredTensor> models, DType out_dtype, std::span<std::byte> out,
                  Threads& threads) {
  std::vector<StoredTensor> all(models.begin(), models.end());
  if (base) all.push_back(*base);
  MemoryOutput output(out, dtype_size(out_dtype));
  return merge_tensor(method, task, MemoryInputs(all), base != nullptr, out_dtype, output, threads);
}

void inspect_tensor(const MergeMethod& method, const TensorTask& task, const TensorInputs& inputs,
                    bool with_base, Threads& threads, const Inspect& inspect) {
  const Pass pass(method, task, inputs, with_base, threads);
  inspect(*method.survey(task, pass), pass);
}

void copy_tensor(std::string_view name, int64_t count, const TensorInputs& inputs,
                 std::span<TensorOutput* const> outs) {
  const auto ranges = ranges_of(count, inputs.block_elements());
  inputs.visit(ranges, [&](const ElementRange& range, std::span<const StoredTensor> models) {
    for (const StoredTensor& m : models) {
      if (!std::ranges::equal(m.bytes, models[0].bytes)) {
        throw input_error(
            "tensor {} is {} and differs between {} and {}: there is no way to merge it", name,
            dtype_name(m.dtype), models[0].model, m.model);
      }
    }
    for (TensorOutput* out : outs) {
      std::ranges::copy(models[0].bytes, out->begin(range).begin());
      out->end();
    }
  });
}

}  // namespace lewis
