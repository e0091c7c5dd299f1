#include "merge/inputs.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "merge/modules.h"

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

// The first key of config.json that changes what the weights mean and differs between two models.
std::optional<std::string> differing_key(const InputModel& a, const InputModel& b) {
  static constexpr std::array<std::string_view, 11> kKeys = {
      "model_type",          "hidden_act",          "rms_norm_eps",       "rope_theta",
      "rope_scaling",        "rope_parameters",     "head_dim",           "sliding_window",
      "num_attention_heads", "num_key_value_heads", "tie_word_embeddings"};
  for (const std::string_view key : kKeys) {
    const auto x = a.config->find(key), y = b.config->find(key);
    if (x != a.config->end() && y != b.config->end() && *x != *y) return std::string(key);
  }
  return std::nullopt;
}

}  // namespace

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
  check_lewis();
  if (recipe_.modules.empty()) {
    open_models();
    choose_models();
    recipe_.slices.empty() ? add_tensors_of_models() : add_tensors_of_slices();
  } else {
    open_modules();
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const auto& a, const auto& b) { return a.info.name < b.info.name; });
  if (!modules_.empty()) return;  // each has checked its own
  for (OutputTensor& t : tensors_) {
    check(t);
    t.merged = is_arithmetic(t.sources()[0].tensor->dtype);
    if (!t.merged) continue;
    check_counts(t);
    t.info.dtype = output_dtype(t);
    task(t);  // every parameter is there
    if (options_.refined) take_refined(t);
  }
}

// What lewis: asks of the merge itself.
void MergeInputs::check_lewis() const {
  if (!recipe_.lewis) return;
  const LewisSection& lewis = *recipe_.lewis;
  if (lewis.trim == "activation" && !method_.reads_trim_factors) {
    throw usage_error(
        "{}: lewis.trim: activation needs a method that keeps the largest entries of task vectors "
        "(ties, breadcrumbs, breadcrumbs_ties), not {}",
        where(), method_.name);
  }
  if (lewis.aim && method_.base != BaseRole::kApart) {
    throw usage_error("{}: lewis.aim needs a method of task vectors, which {} is not", where(),
                      method_.name);
  }
  const bool models = recipe_.slices.empty() && recipe_.modules.empty();
  if (!models && (lewis.aim || lewis.trim == "activation" || lewis.coefficient.method != "none")) {
    throw usage_error("{}: lewis.trim, coefficient and aim need the form models", where());
  }
}

// A tensor that was refined is read from there.
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

void MergeInputs::open_models() {
  OpenOptions within = options_;
  within.refined.reset();
  for (const RecipeModel& m : recipe_.models) opened_.push_back(open_input(m, within));
  for (const InputModel& model : opened_) models_.push_back(&model);
  main_ = models_[recipe_.base_index.value_or(0)];
  if (recipe_.tokenizer || recipe_.chat_template) change_tokenizers();
}

// From here on the models have the vocabulary of the output. Of several modules only the one with
// the embeddings is concerned.
void MergeInputs::change_tokenizers() {
  const auto own = tensors_of(main());
  const auto embeds = [&](const TensorInfo* t) { return is_embedding(*t, main().vocab_size()); };
  if (belongs_ && std::ranges::none_of(own, embeds)) return;
  if (!options_.tokenizers)
    throw failed_error("{}: there is nothing here that builds tokenizers", where());
  tokenizer_ = options_.tokenizers(recipe_, opened_, recipe_.base_index.value_or(0));
  if (!tokenizer_.plan) return;
  std::vector<std::shared_ptr<const TensorSource>> sources;
  for (const InputModel& model : opened_) sources.push_back(model.source);
  for (size_t m = 0; m < opened_.size(); ++m)
    opened_[m].source = std::make_shared<const PermutedSource>(tokenizer_.plan, sources, m);
}

void MergeInputs::open_modules() {
  std::vector<std::string> names;
  for (const RecipeModule& m : recipe_.modules) names.push_back(m.name);
  for (size_t m = 0; m < names.size(); ++m) {
    const auto belongs = [names, m, where = where()](const std::string& tensor) {
      const auto found = module_of(tensor, names);
      if (found) return *found == m;
      throw usage_error("{}: tensor {} belongs to none of the modules {}; add the module 'default'",
                        where, tensor, fmt::join(names, ", "));
    };
    modules_.push_back(std::unique_ptr<MergeInputs>(
        new MergeInputs(*recipe_.modules[m].recipe, options_, belongs)));
    take_over(m);
  }
}

// What a module merges is part of the output.
void MergeInputs::take_over(size_t module) {
  const MergeInputs& part = *modules_[module];
  const std::string& name = recipe_.modules[module].name;
  static constexpr std::array<std::string_view, 4> kStacked = {"default", "language_model",
                                                               "text_decoder", "text_model"};
  if (!part.recipe_.slices.empty() && std::ranges::find(kStacked, name) == kStacked.end()) {
    throw usage_error(
        "{}: module '{}' has slices: only those of the language model ({}) may be "
        "stacked",
        where(), name, fmt::join(kStacked, ", "));
  }
  if (part.tensors().empty()) {
    throw usage_error("{}: no tensor belongs to module '{}'", where(), name);
  }
  for (OutputTensor t : part.tensors()) {
    t.module = module;
    tensors_.push_back(std::move(t));
  }
  models_.insert(models_.end(), part.models_.begin(), part.models_.end());
  if (!main_) main_ = &part.main();
  if (!part.tokenizer_.files.empty() || part.tokenizer_.plan) tokenizer_ = part.tokenizer_;
  layers_ = std::max(layers_, part.layers());
}

// Whether the method keeps this model apart as the base.
bool MergeInputs::is_apart(size_t model, size_t slice) const {
  std::optional<size_t> base = recipe_.base_index;
  if (slice < recipe_.slices.size() && recipe_.slices[slice].base_index)
    base = recipe_.slices[slice].base_index;
  return base == model && (method_.base == BaseRole::kApart || method_.base == BaseRole::kOptional);
}

void MergeInputs::choose_models() {
  std::set<size_t> chosen;
  for (size_t slice = 0; slice < recipe_.slices.size(); ++slice) {
    for (const SliceSource& s : recipe_.slices[slice].sources) {
      if (!is_apart(s.model, slice)) chosen.insert(s.model);
    }
  }
  for (size_t i = 0; recipe_.slices.empty() && i < models_.size(); ++i) {
    if (is_apart(i, 0)) continue;
    // mergekit appends a base_model that is not listed to the models of every method.
    const bool unweighted = !recipe_.models[i].listed && !recipe_.parameters.contains("weight");
    if (method_.base == BaseRole::kWeighted && unweighted) continue;
    chosen.insert(i);
  }
  merged_.assign(chosen.begin(), chosen.end());
  if (merged_.empty()) throw usage_error("{}: no model to merge into the base", where());
}

std::vector<std::string> MergeInputs::merged_names() const {
  std::vector<std::string> names;
  for (const size_t m : merged_) names.push_back(recipe_.models[m].model);
  for (const auto& module : modules_) {
    for (const std::string& name : module->merged_names()) {
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

// Those that belong to this module.
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

// What stands before the number of a layer; there must be one stack of layers.
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

const OutputTensor& MergeInputs::tensor(std::string_view name) const {
  const auto it =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const OutputTensor& t, std::string_view n) { return t.info.name < n; });
  if (it != tensors_.end() && it->info.name == name) return *it;
  throw usage_error("the output has no tensor {}", name);
}

std::vector<ParameterLevel> MergeInputs::levels(const OutputTensor& t,
                                                const MergeSource* source) const {
  if (recipe_.slices.empty()) {
    return parameter_levels(recipe_, source ? std::optional(source->model) : std::nullopt);
  }
  return slice_levels(recipe_, t.slice, source ? std::optional(source->place) : std::nullopt);
}

namespace {

// The parameters by name, so that values, errors and explanations say the same.
struct ModelParameter {
  std::string_view name;
  double ModelParameters::*member;
};
constexpr ModelParameter kModelParameters[] = {{"weight", &ModelParameters::weight},
                                               {"density", &ModelParameters::density},
                                               {"gamma", &ModelParameters::gamma},
                                               {"epsilon", &ModelParameters::epsilon},
                                               {"scale", &ModelParameters::scale}};

struct GlobalParameter {
  std::string_view name;
  std::optional<double> GlobalParameters::*member;
};
constexpr GlobalParameter kGlobalParameters[] = {
    {"normalize", &GlobalParameters::normalize},
    {"rescale", &GlobalParameters::rescale},
    {"t", &GlobalParameters::t},
    {"filter_wise", &GlobalParameters::filter_wise},
    {"nuslerp_flatten", &GlobalParameters::nuslerp_flatten},
    {"nuslerp_row_wise", &GlobalParameters::nuslerp_row_wise},
    {"normalize_weights", &GlobalParameters::normalize_weights},
    {"eps", &GlobalParameters::eps},
    {"max_iter", &GlobalParameters::max_iter},
    {"tol", &GlobalParameters::tol},
    {"select_topk", &GlobalParameters::select_topk},
    {"r", &GlobalParameters::r},
    {"alpha", &GlobalParameters::alpha},
    {"epsilon", &GlobalParameters::epsilon}};

}  // namespace

bool MergeInputs::merge(const OutputTensor& t, const TensorInputs& sources, TensorOutput& out,
                        Threads& threads) const {
  if (t.merged) {
    return merge_tensor(method_, task(t), sources, t.base.has_value(), t.info.dtype, out, threads);
  }
  copy_tensor(t.info.name, element_count(t.info.shape), sources, out);
  return true;
}

namespace {

// Of the tensor, where there are any.
const ColumnFactors* factors_of(const std::shared_ptr<const ColumnFactorMap>& all,
                                const TensorInfo& tensor) {
  if (!all) return nullptr;
  const auto found = all->find(tensor.name);
  if (found == all->end()) return nullptr;
  if (found->second.fits(element_count(tensor.shape))) return &found->second;
  throw failed_error("{} {}: {} factors for its columns", tensor.name, to_string(tensor.shape),
                     found->second.values.size());
}

}  // namespace

TensorTask MergeInputs::task(const OutputTensor& t) const {
  if (!modules_.empty()) return modules_[t.module]->task(t);
  TensorTask task;
  if (t.base) task.relaxation = factors_of(recipe_.relaxation, *t.base->tensor);
  task.name = t.info.name;
  task.shape = t.info.shape;
  task.count = element_count(t.info.shape);
  const auto missing = [&](std::string_view parameter, std::string_view of, int line) {
    return usage_error("{}:{}: {}no {} for tensor {}; {} needs one", where(), line, of, parameter,
                       t.info.name, method_.name);
  };
  for (const MergeSource& s : t.models) {
    ModelParameters values{
        .random = TensorRandom(options_.seed, s.model, t.info.name),
        .trim_factors = factors_of(recipe_.models[s.model].trim_factors, *s.tensor)};
    for (const ModelParameter& p : kModelParameters) {
      const auto found = find_value(levels(t, &s), p.name, s.tensor->name, t.depth);
      if (found) values.*p.member = found->value;
      if (!found && p.name == "weight" && method_.requires_parameter(p.name)) {
        const RecipeModel& model = recipe_.models[s.model];
        throw missing(p.name, fmt::format("model {} has ", model.model), model.line);
      }
    }
    task.models.push_back(values);
  }
  const auto global = levels(t, nullptr);
  for (const GlobalParameter& p : kGlobalParameters) {
    const auto found = find_value(global, p.name, t.info.name, t.depth);
    if (found) task.*p.member = found->value;
    if (!found && method_.requires_parameter(p.name)) {
      throw missing(p.name, "", recipe_.slices.empty() ? 1 : recipe_.slices[t.slice].line);
    }
  }
  if (const auto found = find_value(global, "lambda", t.info.name, t.depth)) {
    task.lambda = found->value;
  }
  return task;
}

std::vector<std::string> MergeInputs::explain(const OutputTensor& t) const {
  if (!modules_.empty()) return modules_[t.module]->explain(t);
  std::vector<std::string> lines = {
      fmt::format("{}: {} {}, {}", t.info.name, dtype_name(t.info.dtype), to_string(t.info.shape),
                  t.refined  ? "refined"
                  : t.merged ? fmt::format("merged by {}", method_.name)
                             : "copied"),
      fmt::format("depth t = {:.6g}", t.depth)};
  const auto value = [&](std::string_view parameter, const MergeSource* s) {
    const auto all = levels(t, s);
    const auto found = find_value(all, parameter, s ? s->tensor->name : t.info.name, t.depth);
    if (!found) return fmt::format("  {}: default", parameter);
    const std::string filter = !found->condition ? ""
                               : found->condition->filter.empty()
                                   ? ", the condition without a filter"
                                   : fmt::format(", filter '{}'", found->condition->filter);
    return fmt::format("  {} = {} from {}{}", parameter, found->value, all[found->level].name,
                       filter);
  };
  const auto plain = [](std::string_view name) {
    return name.starts_with('!') ? name.substr(1) : name;
  };
  if (t.base)
    lines.push_back(fmt::format("base {} ({})", t.base->input->label(), t.base->tensor->name));
  for (const MergeSource& s : t.models) {
    lines.push_back(fmt::format("model {} ({})", s.input->label(), s.tensor->name));
    if (tokenizer_.plan && is_embedding(*s.tensor, tokenizer_.plan->rows()))
      lines.push_back("  " + describe_rows(*tokenizer_.plan, s.model));
    for (const std::string_view p : method_.model_parameters) lines.push_back(value(plain(p), &s));
  }
  if (!method_.global_parameters.empty()) lines.push_back("whole merge");
  for (const std::string_view p : method_.global_parameters)
    lines.push_back(value(plain(p), nullptr));
  return lines;
}

std::vector<std::string> MergeInputs::warnings() const {
  std::vector<std::string> lines;
  for (const auto& module : modules_) {
    for (const std::string& line : module->warnings()) {
      if (std::ranges::find(lines, line) == lines.end()) lines.push_back(line);
    }
  }
  if (!modules_.empty()) return lines;
  lines = tokenizer_.warnings;
  if (recipe_.base_index && method_.base == BaseRole::kWeighted &&
      std::find(merged_.begin(), merged_.end(), *recipe_.base_index) == merged_.end()) {
    lines.push_back(fmt::format("{} takes no base: {} only gives config and tokenizer",
                                method_.name, main().label()));
  }
  const auto first =
      std::find_if(tensors_.begin(), tensors_.end(), [](const auto& t) { return t.merged; });
  if (first != tensors_.end() && method_.name == "ties" && merged_.size() == 1) {
    const TensorTask any = task(*first);
    if (any.normalize.value_or(1) != 0 && any.models[0].weight != 1) {
      lines.push_back(
          "ties with one model and normalize: true divides by the weight again, so "
          "weight has no effect");
    }
  }
  std::set<std::string> unread;
  const auto look = [&](const Parameters& parameters) {
    for (const auto& [name, _] : parameters) {
      if (!method_.reads(name)) unread.insert(name);
    }
  };
  look(recipe_.parameters);
  look(recipe_.module_parameters);
  for (const RecipeModel& m : recipe_.models) look(m.parameters);
  for (const std::string& name : unread) {
    lines.push_back(fmt::format("{} does not read the parameter {}", method_.name, name));
  }
  for (const InputModel& model : opened_) {
    if (const auto key = differing_key(main(), model)) {
      lines.push_back(
          fmt::format("config.json: '{}' differs between {} and {}; the merge has that of {}", *key,
                      main().label(), model.label(), main().label()));
    }
  }
  return lines;
}

}  // namespace lewis
