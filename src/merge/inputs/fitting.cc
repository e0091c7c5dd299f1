// MergeInputs: makes models fit together that store the same thing in different ways: other
// spellings of names, buffers that only some have, heads that are tied in some.
#include <algorithm>
#include <map>
#include <set>

#include "io/tensor_names.h"
#include "io/tied_head.h"
#include "merge/inputs.h"
#include "merge/sources/shown_source.h"

namespace lewis {
namespace {

// The name without the number of its layer: models of slices may have different numbers of layers.
std::string in_any_layer(const std::string& name) {
  const LayerName parts = split_layer(name);
  return parts.layer ? fmt::format("{}#{}", parts.prefix, parts.rest) : name;
}

}  // namespace

void MergeInputs::settle_names() {
  for (InputModel& model : opened_) {
    if (&model != main_) {
      respell(model, *main_);
      fit_layers(model, *main_);
    }
    for (const std::string& note : model.notes) {
      if (std::ranges::find(notes_, note) == notes_.end()) notes_.push_back(note);
    }
  }
}

// Buffers follow from config.json, so one that is not alike in all models is of no use: it is left
// out.
void MergeInputs::leave_out_buffers() {
  const bool stacked = !recipe_.slices.empty();
  std::map<std::string, std::pair<TensorInfo, std::set<const InputModel*>>> buffers;
  std::set<std::string> odd;
  const auto key = [&](const TensorInfo& t) { return stacked ? in_any_layer(t.name) : t.name; };
  for (const InputModel& model : opened_) {
    for (const TensorInfo& t : model.source->tensors()) {
      if (!is_buffer(t)) continue;
      auto& [first, owners] =
          buffers.try_emplace(key(t), t, std::set<const InputModel*>()).first->second;
      owners.insert(&model);
      if (first.dtype != t.dtype || first.shape != t.shape) odd.insert(key(t));
    }
  }
  for (const auto& [name, buffer] : buffers) {
    if (buffer.second.size() != opened_.size()) odd.insert(name);
  }
  if (odd.empty()) return;
  for (InputModel& model : opened_) {
    model.source = without_tensors(
        model.source, [&](const TensorInfo& t) { return is_buffer(t) && odd.contains(key(t)); });
  }
  notes_.push_back(fmt::format(
      "{} buffer{} not stored alike in all models and left out ({}): {} from config.json",
      odd.size(), odd.size() == 1 ? " is" : "s are", *odd.begin(),
      odd.size() == 1 ? "it follows" : "they follow"));
}

// Where one model has a head of its own, the result has one: a model whose head is its embeddings
// then gives these for both.
void MergeInputs::settle_heads() {
  std::vector<HeadTensors> found;
  for (const InputModel& model : opened_) found.push_back(find_head(model.source->tensors()));
  const auto has_head = [](const HeadTensors& h) { return h.head != nullptr; };
  const auto owner = std::ranges::find_if(found, has_head);
  if (owner == found.end() || std::ranges::all_of(found, has_head)) return;
  const auto main = static_cast<size_t>(main_ - opened_.data());
  const size_t first = has_head(found[main]) ? main : static_cast<size_t>(owner - found.begin());
  std::string name = found[first].head->name;
  if (!has_head(found[main]) && found[main].embedding) {
    const std::string beside = head_name_beside(found[main].embedding->name);
    if (canonical_name(beside) == canonical_name(name)) name = beside;
  }
  for (size_t m = 0; m < opened_.size(); ++m) {
    InputModel& model = opened_[m];
    if (has_head(found[m])) {
      if (found[m].head->name == name) continue;
      std::vector<ShownTensor> shown;
      for (const TensorInfo& t : model.source->tensors())
        shown.push_back({&t == found[m].head ? name : t.name, &t});
      model.source = show_tensors(model.source, std::move(shown));
    } else if (found[m].embedding) {
      model.source = with_copy(model.source, *found[m].embedding, name);
      notes_.push_back(fmt::format(
          "{} has no {}: its embeddings are its head, and they are merged with the head of {}",
          model.label(), name, opened_[first].label()));
    }
  }
}

}  // namespace lewis
