// MergeInputs: opens the models of a recipe, of each of its modules, and decides which are merged.
#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "base/threads.h"
#include "merge/inputs.h"
#include "merge/modules.h"

namespace lewis {

// Checks the settings of the section `lewis:` that concern the merge itself.
void MergeInputs::check_lewis() const {
  if (!recipe_.lewis) return;
  const LewisSection& lewis = *recipe_.lewis;
  if (lewis.trim == Trim::kActivation && !method_.reads_trim_factors) {
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
  if (!models && (lewis.aim || lewis.trim == Trim::kActivation ||
                  lewis.coefficient.method != Coefficient::kNone)) {
    throw usage_error("{}: lewis.trim, coefficient and aim need the form models", where());
  }
}

namespace {

// Opens several models at a time, since the headers of a large one take seconds. The first of those
// that cannot be opened is the one that the error names.
std::vector<InputModel> open_all(std::span<const RecipeModel> models, const OpenOptions& options) {
  std::vector<InputModel> opened(models.size());
  std::vector<std::exception_ptr> errors(models.size());
  Threads threads(options.threads == 0 ? 0 : std::min(options.threads, models.size()));
  threads.run(models.size(), [&](size_t i) {
    try {
      opened[i] = open_input(models[i], options);
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return opened;
}

}  // namespace

bool reads_adapted_as_f32(const Recipe& recipe) {
  const std::optional<DType> type = recipe.out_dtype ? recipe.out_dtype : recipe.dtype;
  return type && !recipe.fp8_block &&
         (*type == DType::kF32 || recipe.merge_method == "passthrough");
}

void MergeInputs::open_models() {
  OpenOptions within = options_;
  within.refined.reset();
  within.adapted_as_f32 = reads_adapted_as_f32(recipe_);
  opened_ = open_all(recipe_.models, within);
  for (const InputModel& model : opened_) models_.push_back(&model);
  main_ = models_[recipe_.base_index.value_or(0)];
  settle_names();
  leave_out_buffers();
  settle_heads();
  if (recipe_.tokenizer || recipe_.chat_template) change_tokenizers();
}

// Gives the models the vocabulary of the output. Only the module with the embeddings is concerned.
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

// Makes the tensors of a module part of the output.
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
  if (!merged_.empty()) return;
  notes_.push_back(fmt::format("the base is the only model, so {} returns it: {}", method_.name,
                               main().label()));
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

}  // namespace lewis
