#include "merge/inputs.h"

#include <algorithm>

#include "base/error.h"
#include "recipe/outputs.h"

namespace lewis {

std::vector<MergeSource> OutputTensor::sources() const {
  std::vector<MergeSource> all = models;
  if (base) all.push_back(*base);
  return all;
}

std::vector<StoredTensor> read_stored(std::span<const MergeSource> sources,
                                      const ElementRange& range, std::vector<PageBuffer>& rooms) {
  rooms.resize(std::max(rooms.size(), sources.size()));
  std::vector<StoredTensor> stored;
  for (size_t i = 0; i < sources.size(); ++i) {
    const MergeSource& s = sources[i];
    const auto bytes = rooms[i].get(static_cast<size_t>(range.count) * dtype_size(s.tensor->dtype));
    s.input->source->read(*s.tensor, range.first, bytes);
    stored.push_back({s.tensor->dtype, bytes, s.input->label()});
  }
  return stored;
}

MergeInputs::MergeInputs(const Recipe& recipe, const OpenOptions& options)
    : MergeInputs(recipe, options, nullptr) {}

MergeInputs::MergeInputs(const Recipe& recipe, const OpenOptions& options, Belongs belongs)
    : recipe_(recipe),
      options_(options),
      belongs_(std::move(belongs)),
      method_(find_merge_method(recipe.merge_method)) {
  if (method_.base == BaseRole::kApart && !recipe_.base_index) {
    throw usage_error("{}: merge_method {} needs base_model", where(), method_.name);
  }
  if (!options.outputs) refuse_outputs(recipe, "this command");
  check_lewis();
  check_fp8(recipe_);
  if (recipe_.modules.empty()) {
    open_models();
    if (recipe_.fp8_block) fp8_ = find_fp8_matrices(main());
    choose_models();
    recipe_.slices.empty() ? add_tensors_of_models() : add_tensors_of_slices();
  } else {
    open_modules();
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const auto& a, const auto& b) { return a.info.name < b.info.name; });
  if (!modules_.empty()) return;  // each has checked its own
  for (OutputTensor& t : tensors_) {
    pass_base_through(t);
    check(t);
    t.merged = is_arithmetic(t.sources()[0].tensor->dtype);
    if (!t.merged) continue;
    check_counts(t);
    t.info.dtype = output_dtype(t);
    task(t);  // every parameter is there
    if (options_.refined) take_refined(t);
  }
}

const MergeMethod& MergeInputs::method_of(const OutputTensor& t) const {
  if (!modules_.empty()) return modules_[t.module]->method_of(t);
  return t.base_alone ? find_merge_method("passthrough") : method_;
}

const OutputTensor& MergeInputs::tensor(std::string_view name) const {
  const auto it =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const OutputTensor& t, std::string_view n) { return t.info.name < n; });
  if (it != tensors_.end() && it->info.name == name) return *it;
  for (const WrittenTensor& t : written()) {
    if (t.info.name == name && t.parts[0].name != name) return tensor(t.parts[0].name);
  }
  throw usage_error("the output has no tensor {}", name);
}

void MergeInputs::merge(const OutputTensor& t, const TensorInputs& sources,
                        std::span<Wanted> wanted, Threads& threads) const {
  if (!t.merged) {
    std::vector<TensorOutput*> outs;
    for (const Wanted& w : wanted) outs.push_back(w.out);
    copy_tensor(t.info.name, unit_count(t.info), sources, outs);
    for (Wanted& w : wanted) w.copied = true;
    return;
  }
  std::vector<TensorMerge> merges;
  for (const Wanted& w : wanted) merges.push_back({task(t, w.result), w.out});
  merge_tensor(method_of(t), merges, sources, t.base.has_value(), t.info.dtype, threads);
  for (size_t i = 0; i < wanted.size(); ++i) wanted[i].copied = merges[i].copied;
}

bool MergeInputs::merge(const OutputTensor& t, const TensorInputs& sources, TensorOutput& out,
                        Threads& threads) const {
  Wanted only{0, &out};
  merge(t, sources, {&only, 1}, threads);
  return only.copied;
}

}  // namespace lewis
