// MergeInputs: accounts for every tensor, which is merged, copied or refused.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "io/extra_parts.h"
#include "merge/inputs.h"

namespace lewis {
namespace {

// The name of the same tensor in another layer.
std::string layer_name(const LayerName& parts, int64_t layer) {
  return fmt::format("{}{}{}", parts.prefix, layer, parts.rest);
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

// The stacks of layers of a model. Heads that predict further tokens may lie behind the layers that
// config.json counts, under the same prefix.
LayerStacks MergeInputs::stacks_of(const InputModel& model) const {
  LayerStacks stacks;
  for (const TensorInfo* t : tensors_of(model)) stacks.add(t->name);
  stacks.split_off(model.text_integer("num_hidden_layers"), promised_mtp_layers(*model.config));
  return stacks;
}

// The prefix and the number of layers of a model that must have one stack of layers, besides those
// that predict further tokens.
std::pair<std::string, int64_t> MergeInputs::only_stack(const InputModel& model) const {
  LayerStacks stacks;
  for (const TensorInfo* t : tensors_of(model)) {
    if (!is_mtp(t->name, *model.config)) stacks.add(t->name);
  }
  if (stacks.stacks().size() == 1) return *stacks.stacks().begin();
  std::vector<std::string> prefixes;
  for (const auto& [prefix, layers] : stacks.stacks())
    prefixes.push_back(fmt::format("{} ({} layer{})", prefix, layers, layers == 1 ? "" : "s"));
  throw usage_error(
      "{}: slices need one stack of layers, found {}{}{}; give each part of the model a module "
      "(`modules:`)",
      model.label(), prefixes.size(), prefixes.empty() ? "" : ": ", fmt::join(prefixes, ", "));
}

void MergeInputs::add_tensors_of_models() {
  account();
  const LayerStacks stacks = stacks_of(main());
  layers_ = stacks.most_layers();
  for (const TensorInfo* t : tensors_of(main())) {
    OutputTensor out;
    out.info = *t;
    out.depth = stacks.depth(t->name);
    const auto missing = missing_.find(t->name);
    if (missing != missing_.end() && missing->second == Missing::kBase) {
      take_from_main(out);
    } else {
      for (const size_t m : merged_) out.models.push_back(source_of(m, t->name));
      for (size_t m = 0; m < models_.size(); ++m) {
        if (is_apart(m, 0)) out.base = source_of(m, t->name);
      }
    }
    tensors_.push_back(std::move(out));
  }
}

// The output tensor made from `first` of the slice's first source, `offset` layers into the slice.
OutputTensor MergeInputs::output_of_slice(size_t slice, int64_t offset,
                                          const TensorInfo& first) const {
  const OutputSlice& s = recipe_.slices[slice];
  const LayerName parts = split_layer(first.name);
  OutputTensor out;
  out.info = first;
  out.slice = slice;
  for (size_t place = 0; place < s.sources.size(); ++place) {
    const SliceSource& source = s.sources[place];
    const std::string name = parts.layer ? layer_name(parts, source.begin + offset) : first.name;
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
  std::map<size_t, int64_t> counted;  // by model
  for (const OutputSlice& s : recipe_.slices) {
    for (const SliceSource& source : s.sources) {
      const InputModel& model = *models_[source.model];
      const auto [layers, is_new] = counted.try_emplace(source.model, 0);
      if (is_new) layers->second = only_stack(model).second;
      if (source.end <= layers->second) continue;
      throw usage_error("{}:{}: layer_range [{}, {}) of {}, which has {} layers", where(), s.line,
                        source.begin, source.end, model.label(), layers->second);
    }
  }
}

std::vector<LayerOrigin> MergeInputs::layer_origins() const {
  std::vector<LayerOrigin> layers;
  for (const OutputSlice& slice : recipe_.slices) {
    const SliceSource& source = slice.sources[0];
    const InputModel& model = *models_[source.model];
    for (int64_t l = source.begin; l < source.end; ++l)
      layers.push_back({&text_part(*model.config), l, model.label()});
  }
  return layers;
}

// Refuses a stack whose config.json could not say of what kind its layers are. Layers of different
// kinds may be merged; the result has the first one's.
void MergeInputs::check_layer_kinds() {
  Json text = text_part(*main().config);
  if (text.contains("num_hidden_layers")) stack_layer_kinds(layer_origins(), text);
  for (const OutputSlice& slice : recipe_.slices) {
    const SliceSource& first = slice.sources[0];
    const Json& own = text_part(*models_[first.model]->config);
    for (const SliceSource& source : slice.sources) {
      const Json& other = text_part(*models_[source.model]->config);
      for (int64_t i = 0; i < slice.layers(); ++i) {
        const Json kind = layer_kind(own, "layer_types", first.begin + i);
        const Json its = layer_kind(other, "layer_types", source.begin + i);
        if (kind == its) continue;
        notes_.push_back(fmt::format(
            "layer {} of {} ({}) is merged with layer {} of {} ({}): the result has the first "
            "one's kind of attention",
            first.begin + i, models_[first.model]->label(), kind.dump(), source.begin + i,
            models_[source.model]->label(), its.dump()));
        return;
      }
    }
  }
}

// Layers that predict further tokens belong to no slice: the output has those of main(), behind its
// own layers.
void MergeInputs::add_mtp_of_main() {
  const int64_t before = main().text_integer("num_hidden_layers");
  size_t count = 0;
  for (const TensorInfo* t : tensors_of(main())) {
    if (!is_mtp(t->name, *main().config)) continue;
    OutputTensor out;
    out.info = *t;
    out.slice = recipe_.slices.size() - 1;
    out.depth = 1;
    take_from_main(out);
    const LayerName parts = split_layer(t->name);
    if (before > 0 && parts.layer.value_or(0) >= before)
      out.info.name = layer_name(parts, *parts.layer - before + layers_);
    tensors_.push_back(std::move(out));
    ++count;
  }
  if (count == 0) return;
  notes_.push_back(
      fmt::format("{} tensor{} of multi-token prediction {} in no slice: the result has {} of {}",
                  count, count == 1 ? "" : "s", count == 1 ? "is" : "are",
                  count == 1 ? "that" : "those", main().label()));
}

void MergeInputs::add_tensors_of_slices() {
  if (!recipe_.missing.empty())
    throw usage_error("{}: `missing` needs the form models or modules", where());
  check_layer_ranges();
  check_layer_kinds();
  for (size_t slice = 0; slice < recipe_.slices.size(); ++slice) {
    const OutputSlice& s = recipe_.slices[slice];
    const InputModel& model = *models_[s.sources[0].model];
    for (const TensorInfo* t : tensors_of(model)) {
      if (is_mtp(t->name, *model.config)) continue;
      const LayerName parts = split_layer(t->name);
      if (!parts.layer) {
        const size_t wanted = is_before_layers(t->name) ? 0 : recipe_.slices.size() - 1;
        if (slice == wanted) tensors_.push_back(output_of_slice(slice, 0, *t));
        continue;
      }
      const int64_t offset = *parts.layer - s.sources[0].begin;
      if (offset < 0 || offset >= s.layers()) continue;
      OutputTensor out = output_of_slice(slice, offset, *t);
      out.info.name = layer_name(parts, layers_ + offset);
      out.depth =
          s.layers() > 1 ? static_cast<double>(offset) / static_cast<double>(s.layers() - 1) : 1;
      tensors_.push_back(std::move(out));
    }
    layers_ += s.layers();
  }
  add_mtp_of_main();
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

// A method of task vectors returns the base where no model is merged into it.
void MergeInputs::pass_base_through(OutputTensor& t) const {
  if (!t.base || !t.models.empty()) return;
  t.models = {*t.base};
  t.base.reset();
  t.base_alone = true;
}

void MergeInputs::check_counts(const OutputTensor& t) const {
  if (t.base_alone) return;
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
  if (fp8_.contains(t.info.name)) return DType::kF32;  // rounded once, when it is encoded
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
