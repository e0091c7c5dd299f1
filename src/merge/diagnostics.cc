#include "merge/diagnostics.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "merge/tensor/streaming.h"

namespace lewis {
namespace {

constexpr uint64_t kWholeBytes = 512 << 20;   // tensors up to this size with their inputs in memory
constexpr int64_t kBlockElements = 16 << 20;  // of larger ones

std::optional<double> ratio(double part, double whole) {
  return whole > 0 ? std::optional(part / whole) : std::nullopt;
}

constexpr size_t kLanes = 8;  // a fixed order of adding that the compiler can vectorise

// n is a multiple of kLanes.
LEWIS_VECTORIZED void dot_in_lanes(const double* a, const double* b, size_t n, double* sums) {
  double lanes[kLanes] = {};
  for (size_t i = 0; i < n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] = lanes[lane];
}

double dot(std::span<const double> a, std::span<const double> b) {
  double sums[kLanes], total = 0;
  const size_t whole = a.size() / kLanes * kLanes;
  dot_in_lanes(a.data(), b.data(), whole, sums);
  for (const double s : sums) total += s;
  for (size_t i = whole; i < a.size(); ++i) total += a[i] * b[i];
  return total;
}

int64_t count_nonzero(std::span<const double> x) {
  return static_cast<int64_t>(x.size()) - std::ranges::count(x, 0.0);
}

// Entries where neither is 0, and those of them where the signs differ.
std::pair<int64_t, int64_t> count_signs(std::span<const double> a, std::span<const double> b) {
  int64_t both = 0, opposite = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double product = a[i] * b[i];  // of floats: cannot underflow
    both += product != 0;
    opposite += product < 0;
  }
  return {both, opposite};
}

// Which inputs of a tensor are the base and the experts.
struct Roles {
  const MergeSource* base = nullptr;
  std::optional<size_t> base_place;  // into Chunk::models; none: Chunk::base
  struct Expert {
    size_t place = 0;  // into Chunk::models
    size_t index = 0;  // into MergeDiagnostics::models
  };
  std::vector<Expert> experts;
};

// The sums over one slot of a tensor.
struct SlotSums {
  std::vector<TaskVectorSums> models;
  std::vector<PairSums> pairs;
};

using Rows = std::vector<std::vector<double>>;  // one per task vector

// A tensor of the merged model.
struct Finished {
  const TensorSource& source;
  const TensorInfo& tensor;
  void read(int64_t first, std::span<float> values) const {
    std::vector<std::byte> stored(values.size() * dtype_size(tensor.dtype));
    source.read(tensor, first, stored);
    widen(tensor.dtype, stored.data(), values);
  }
};

std::optional<Finished> finished_tensor(const TensorSource* source, const TensorInfo& wanted) {
  const TensorInfo* found = source ? source->find(wanted.name) : nullptr;
  if (!found || *found != wanted) return std::nullopt;
  return Finished{*source, *found};
}

// Looks at one tensor, chunk by chunk.
class Look {
 public:
  // `finished`: the merged values, or null: what the method makes.
  Look(const MergeMethod& method, const TensorTask& task, const Survey& survey, const Roles& roles,
       DType stored_as, const Finished* finished)
      : method_(method),
        task_(task),
        survey_(survey),
        roles_(roles),
        stored_as_(stored_as),
        finished_(finished) {}

  void add(const Chunk& chunk, SlotSums& sums) const {
    const size_t n = chunk.size(), experts = roles_.experts.size();
    const std::span<const float> base =
        roles_.base_place ? chunk.models[*roles_.base_place] : chunk.base;
    const std::vector<double> base_values(base.begin(), base.end());
    const double base_squares = dot(base_values, base_values);
    Rows deltas;
    for (const Roles::Expert& e : roles_.experts) {
      deltas.push_back(base_values);
      for (size_t i = 0; i < n; ++i)
        deltas.back()[i] = static_cast<double>(chunk.models[e.place][i]) - base_values[i];
    }
    const Rows kept = trimmed(chunk, deltas);
    const std::vector<double> moved = merged_difference(chunk, base_values);
    for (size_t e = 0; e < experts; ++e) {
      TaskVectorSums& s = sums.models[roles_.experts[e].index];
      s.changed += count_nonzero(deltas[e]);
      s.kept += count_nonzero(kept[e]);
      s.squares += dot(deltas[e], deltas[e]);
      s.kept_squares += dot(kept[e], kept[e]);
      s.carried += dot(moved, deltas[e]);
      s.base_squares += base_squares;
    }
    add_pairs(deltas, kept, sums);
  }

 private:
  Rows trimmed(const Chunk& chunk, const Rows& deltas) const {
    if (!method_.trim) return deltas;
    const size_t n = chunk.size();
    std::vector<float> rows(chunk.models.size() * n);
    method_.trim(task_, survey_, chunk, rows);
    Rows kept = deltas;
    for (size_t e = 0; e < kept.size(); ++e) {
      const float* row = rows.data() + roles_.experts[e].place * n;
      for (size_t i = 0; i < n; ++i) kept[e][i] = row[i] != 0 ? deltas[e][i] : 0.0;
    }
    return kept;
  }

  // merged - base, the former rounded as it will be stored.
  std::vector<double> merged_difference(const Chunk& chunk, const std::vector<double>& base) const {
    std::vector<float> values(chunk.size());
    if (finished_) {
      finished_->read(chunk.first, values);
    } else if (!survey_.copy_of) {
      method_.blend(task_, survey_, chunk, values);
    } else {
      const auto copied = *survey_.copy_of == Survey::kBaseItself
                              ? chunk.base
                              : chunk.models[static_cast<size_t>(*survey_.copy_of)];
      values.assign(copied.begin(), copied.end());
    }
    std::vector<std::byte> stored(values.size() * dtype_size(stored_as_));
    narrow(values, stored_as_, stored.data());
    widen(stored_as_, stored.data(), values);
    std::vector<double> difference(values.begin(), values.end());
    for (size_t i = 0; i < difference.size(); ++i) difference[i] -= base[i];
    return difference;
  }

  void add_pairs(const Rows& deltas, const Rows& kept, SlotSums& sums) const {
    for (size_t a = 0; a < deltas.size(); ++a) {
      for (size_t b = a + 1; b < deltas.size(); ++b) {
        const auto [low, high] = std::minmax(roles_.experts[a].index, roles_.experts[b].index);
        if (low == high) continue;  // one model twice in a slice
        PairSums& p = sums.pairs[pair_index(low, high, sums.models.size())];
        const auto [both, opposite] = count_signs(deltas[a], deltas[b]);
        const auto [both_kept, opposite_kept] = count_signs(kept[a], kept[b]);
        p += {both, opposite, both_kept, opposite_kept, dot(deltas[a], deltas[b])};
      }
    }
  }

  const MergeMethod& method_;
  const TensorTask& task_;
  const Survey& survey_;
  const Roles& roles_;
  DType stored_as_;
  const Finished* finished_;
};

// All models of a merge under their names, and who plays which part in a tensor.
class Cast {
 public:
  explicit Cast(const MergeInputs& inputs) : inputs_(inputs) {}

  // The inputs of the module that the tensor belongs to.
  const MergeInputs& part(const OutputTensor& t) const {
    return inputs_.modules().empty() ? inputs_ : *inputs_.modules()[t.module];
  }

  Roles roles(const OutputTensor& t) {
    const Recipe& recipe = part(t).recipe();
    std::optional<size_t> base = recipe.base_index;
    if (t.slice < recipe.slices.size() && recipe.slices[t.slice].base_index)
      base = recipe.slices[t.slice].base_index;
    Roles roles;
    if (t.base) roles.base = &*t.base;
    for (size_t place = 0; place < t.models.size(); ++place) {
      if (!t.base && t.models[place].model == base) {
        roles.base = &t.models[place];
        roles.base_place = place;
      } else {
        roles.experts.push_back({place, index(recipe.models[t.models[place].model].model)});
      }
    }
    return roles;
  }

  const std::vector<std::string>& names() const { return names_; }

 private:
  size_t index(const std::string& name) {
    const auto it = std::ranges::find(names_, name);
    if (it == names_.end()) names_.push_back(name);
    return static_cast<size_t>(std::ranges::find(names_, name) - names_.begin());
  }

  const MergeInputs& inputs_;
  std::vector<std::string> names_;
};

std::unique_ptr<TensorInputs> inputs_of(const OutputTensor& t, std::vector<PageBuffer>& rooms) {
  uint64_t bytes = 0;
  for (const MergeSource& s : t.sources()) bytes += byte_size(*s.tensor);
  const int64_t count = element_count(t.info.shape);
  if (bytes > kWholeBytes) return std::make_unique<StreamedInputs>(t.sources(), kBlockElements);
  return std::make_unique<MemoryInputs>(read_stored(t.sources(), {0, count}, rooms));
}

TensorDiagnostics total_of(const std::vector<SlotSums>& slots, const OutputTensor& t,
                           const SlotSums& none) {
  SlotSums all = none;
  for (const SlotSums& slot : slots) {
    for (size_t m = 0; m < all.models.size(); ++m) all.models[m] += slot.models[m];
    for (size_t p = 0; p < all.pairs.size(); ++p) all.pairs[p] += slot.pairs[p];
  }
  const auto finite = [](const TaskVectorSums& m) {
    return std::isfinite(m.squares + m.carried + m.base_squares);
  };
  if (!std::ranges::all_of(all.models, finite))
    throw input_error("tensor {} holds a value that is not finite (NaN or infinity)", t.info.name);
  return {t.info.name, t.info.shape, std::move(all.models), std::move(all.pairs)};
}

}  // namespace

TaskVectorSums& TaskVectorSums::operator+=(const TaskVectorSums& o) {
  changed += o.changed;
  kept += o.kept;
  squares += o.squares;
  kept_squares += o.kept_squares;
  carried += o.carried;
  base_squares += o.base_squares;
  return *this;
}

std::optional<double> TaskVectorSums::relative_size() const {
  const auto squared = ratio(squares, base_squares);
  return squared ? std::optional(std::sqrt(*squared)) : std::nullopt;
}
std::optional<double> TaskVectorSums::kept_share() const {
  return ratio(static_cast<double>(kept), static_cast<double>(changed));
}
std::optional<double> TaskVectorSums::energy_dropped() const {
  return ratio(squares - kept_squares, squares);
}
std::optional<double> TaskVectorSums::carried_share() const { return ratio(carried, squares); }

PairSums& PairSums::operator+=(const PairSums& o) {
  both += o.both;
  opposite += o.opposite;
  both_kept += o.both_kept;
  opposite_kept += o.opposite_kept;
  dot += o.dot;
  return *this;
}

std::optional<double> PairSums::conflict() const {
  return ratio(static_cast<double>(opposite), static_cast<double>(both));
}
std::optional<double> PairSums::conflict_kept() const {
  return ratio(static_cast<double>(opposite_kept), static_cast<double>(both_kept));
}

size_t pair_index(size_t a, size_t b, size_t count) {
  return a * (2 * count - a - 1) / 2 + b - a - 1;
}

MergeDiagnostics diagnose(const MergeInputs& inputs, Threads& threads, const ProgressFn& progress,
                          const TensorSource* finished) {
  Cast cast(inputs);
  std::vector<const OutputTensor*> tensors;
  for (const OutputTensor& t : inputs.tensors()) {
    if (!t.merged) continue;
    const Roles roles = cast.roles(t);
    if (roles.base && !roles.experts.empty()) tensors.push_back(&t);
  }
  if (tensors.empty())
    throw usage_error("the recipe merges nothing into a base model: there are no task vectors");
  MergeDiagnostics result;
  result.models = cast.names();
  const size_t n = result.models.size();
  const SlotSums none = {std::vector<TaskVectorSums>(n), std::vector<PairSums>(n * (n - 1) / 2)};
  std::vector<PageBuffer> rooms;
  for (const OutputTensor* t : tensors) {
    const MergeMethod& method = cast.part(*t).method();
    const Roles roles = cast.roles(*t);
    const TensorTask task = inputs.task(*t);
    result.trims |= method.trim != nullptr;
    const std::optional<Finished> merged = finished_tensor(finished, t->info);
    std::vector<SlotSums> slots;
    inspect_tensor(
        method, task, *inputs_of(*t, rooms), t->base.has_value(), threads,
        [&](const Survey& survey, const ChunkPass& pass) {
          const Look look(method, task, survey, roles, t->info.dtype, merged ? &*merged : nullptr);
          slots.assign(pass.slots(), none);
          pass.run_all([&](size_t slot, const Chunk& chunk) { look.add(chunk, slots[slot]); });
        });
    TensorDiagnostics found = total_of(slots, *t, none);
    result.tensors.push_back(std::move(found));
    if (progress) progress({"diagnosing", "tensors", result.tensors.size(), tensors.size()});
  }
  return result;
}

}  // namespace lewis
