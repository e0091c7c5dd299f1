// MergeInputs: accounts for every tensor, which is merged, copied or refused.
#include <algorithm>
#include <set>

#include "base/error.h"
#include "merge/inputs.h"

namespace lewis {
namespace {

// "model.layers.", 3, ".mlp.up_proj.weight"; no layer: the name alone.
struct NameParts {
  std::string prefix, rest;
  std::optional<int64_t> layer;
};

NameParts split_name(const std::string& name) {
  const auto layer = tensor_layer(name);
  if (!layer) return {name, "", std::nullopt};
  const std::string number = std::to_string(*layer);
  const size_t at = name.find("." + number + ".");
  if (at == std::string::npos) return {name, "", std::nullopt};
  return {name.substr(0, at + 1), name.substr(at + 1 + number.size()), layer};
}

// Embeddings come before the layers; all else outside of them (final norm, head) behind.
bool is_before_layers(const std::string& name) {
  for (const char* part : {"embed", "wte", "wpe"}) {
    if (name.find(part) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

// The tensors of a model that belong to this module.
std::vector<const TensorInfo*> MergeInputs::tensors_of(const InputModel& model) const {
  std::vector<const TensorInfo*> tensors;
  for (const TensorInfo& t : model.source->tensors()) {
    if (!belongs_ || belongs_(t.name)) tensors.push_back(&t);
  }
  return tensors;
}

int64_t MergeInputs::count_layers(const InputModel& model) const {
  int64_t layers = 0;
  for (const TensorInfo* t : tensors_of(model)) {
    layers = std::max(layers, tensor_layer(t->name).value_or(-1) + 1);
  }
  return layers;
}

// The part of names before the number of a layer; the model must have one stack of layers.
std::string MergeInputs::layer_prefix(const InputModel& model) const {
  std::set<std::string> prefixes;
  for (const TensorInfo* t : tensors_of(model)) {
    const NameParts parts = split_name(t->name);
    if (parts.layer) prefixes.insert(parts.prefix);
  }
  if (prefixes.size() == 1) return *prefixes.begin();
  throw usage_error("{}: slices need a model with one stack of layers, found {}", model.label(),
                    prefixes.size());
}

void MergeInputs::account() const {
  const auto must_have = [&](const InputModel& from, const InputModel& in) {
    for (const TensorInfo* t : tensors_of(from)) {
      if (in.source->find(t->name)) continue;
      throw input_error("tensor {} is in {} but not in {}", t->name, from.label(), in.label());
    }
  };
  for (const InputModel& model : opened_) {
    must_have(main(), model);
    must_have(model, main());
  }
}

void MergeInputs::add_tensors_of_models() {
  account();
  layers_ = count_layers(main());
  for (const TensorInfo* t : tensors_of(main())) {
    OutputTensor out;
    out.info = *t;
    out.depth = tensor_depth(t->name, layers_);
    const auto source = [&](size_t m) {
      return MergeSource{models_[m], &models_[m]->source->get(t->name), m, 0};
    };
    for (const size_t m : merged_) out.models.push_back(source(m));
    for (size_t m = 0; m < models_.size(); ++m) {
      if (is_apart(m, 0)) out.base = source(m);
    }
    tensors_.push_back(std::move(out));
  }
}

// The output tensor made from `first` of the slice's first source, `offset` layers into the slice.
OutputTensor MergeInputs::output_of_slice(size_t slice, int64_t offset,
                                          const TensorInfo& first) const {
  const OutputSlice& s = recipe_.slices[slice];
  const NameParts parts = split_name(first.name);
  OutputTensor out;
  out.info = first;
  out.slice = slice;
  for (size_t place = 0; place < s.sources.size(); ++place) {
    const SliceSource& source = s.sources[place];
    const std::string name = parts.layer
                                 ? parts.prefix + std::to_string(source.begin + offset) + parts.rest
                                 : first.name;
    const InputModel& model = *models_[source.model];
    const MergeSource found{&model, &model.source->get(name), source.model, place};
    if (is_apart(source.model, slice)) {
      out.base = found;
    } else {
      out.models.push_back(found);
    }
  }
  if (method_.base == BaseRole::kApart && !out.base) {
    throw usage_error("{}:{}: {} needs the base model among the sources of every slice", where(),
                      s.line, method_.name);
  }
  return out;
}

void MergeInputs::check_layer_ranges() const {
  for (const OutputSlice& s : recipe_.slices) {
    for (const SliceSource& source : s.sources) {
      const int64_t layers = count_layers(*models_[source.model]);
      if (source.end <= layers) continue;
      throw usage_error("{}:{}: layer_range [{}, {}) of {}, which has {} layers", where(), s.line,
                        source.begin, source.end, models_[source.model]->label(), layers);
    }
  }
}

void MergeInputs::add_tensors_of_slices() {
  check_layer_ranges();
  for (size_t slice = 0; slice < recipe_.slices.size(); ++slice) {
    const OutputSlice& s = recipe_.slices[slice];
    const InputModel& model = *models_[s.sources[0].model];
    const std::string prefix = layer_prefix(model);
    for (const TensorInfo* t : tensors_of(model)) {
      const NameParts parts = split_name(t->name);
      if (!parts.layer) {
        const size_t wanted = is_before_layers(t->name) ? 0 : recipe_.slices.size() - 1;
        if (slice == wanted) tensors_.push_back(output_of_slice(slice, 0, *t));
        continue;
      }
      const int64_t offset = *parts.layer - s.sources[0].begin;
      if (offset < 0 || offset >= s.layers()) continue;
      OutputTensor out = output_of_slice(slice, offset, *t);
      out.info.name = prefix + std::to_string(layers_ + offset) + parts.rest;
      out.depth =
          s.layers() > 1 ? static_cast<double>(offset) / static_cast<double>(s.layers() - 1) : 1;
      tensors_.push_back(std::move(out));
    }
    layers_ += s.layers();
  }
}

// All sources must have the same shape, and be all of types for arithmetic or all of one other
// type.
void MergeInputs::check(const OutputTensor& t) const {
  const auto sources = t.sources();
  const MergeSource& first = t.base ? *t.base : sources[0];
  for (const MergeSource& s : sources) {
    const TensorInfo &a = *first.tensor, &b = *s.tensor;
    const std::string &in_a = first.input->label(), &in_b = s.input->label();
    if (a.shape != b.shape) {
      const bool vocabularies = is_embedding(a, first.input->vocab_size()) &&
                                is_embedding(b, s.input->vocab_size()) && !tokenizer_.plan;
      throw input_error("tensor {} is {} in {} but {} in {}{}", t.info.name, to_string(a.shape),
                        in_a, to_string(b.shape), in_b,
                        vocabularies ? ": their vocabularies differ; tokenizer_source: union keeps "
                                       "all tokens, base those of the base model"
                                     : "");
    }
    const bool both = is_arithmetic(a.dtype) && is_arithmetic(b.dtype);
    if (!both && a.dtype != b.dtype) {
      throw input_error("tensor {} is {} in {} but {} in {}", t.info.name, dtype_name(a.dtype),
                        in_a, dtype_name(b.dtype), in_b);
    }
  }
}

void MergeInputs::check_counts(const OutputTensor& t) const {
  const size_t n = t.models.size(), least = method_.min_models, most = method_.max_models;
  if (n >= least && n <= most) return;
  const size_t bound = n < least ? least : most;
  throw usage_error("{}: {} takes {} {} model{}{}, found {} for tensor {}", where(), method_.name,
                    least == most ? "exactly"
                    : n < least   ? "at least"
                                  : "at most",
                    bound, bound == 1 ? "" : "s",
                    method_.base == BaseRole::kApart ? " besides the base" : "", n, t.info.name);
}

// out_dtype, else dtype, else the base's type, else the type that all models have, else F32.
DType MergeInputs::output_dtype(const OutputTensor& t) const {
  if (recipe_.out_dtype || recipe_.dtype) {
    return recipe_.out_dtype ? *recipe_.out_dtype : *recipe_.dtype;
  }
  if (t.base) return t.base->tensor->dtype;
  const DType first = t.models[0].tensor->dtype;
  const auto other = [&](const MergeSource& s) { return s.tensor->dtype != first; };
  return std::any_of(t.models.begin(), t.models.end(), other) ? DType::kF32 : first;
}

// Makes a tensor that was refined be read from the refined model.
void MergeInputs::take_refined(OutputTensor& t) const {
  const TensorInfo* refined = options_.refined->source->find(t.info.name);
  if (!refined) return;
  if (*refined != t.info) {
    throw failed_error("{}: tensor {} was refined as {} {}, the merge has {} {}", where(),
                       t.info.name, dtype_name(refined->dtype), to_string(refined->shape),
                       dtype_name(t.info.dtype), to_string(t.info.shape));
  }
  t.models = {{options_.refined.get(), refined}};
  t.base.reset();
  t.merged = false;
  t.refined = true;
}

}  // namespace lewis
