#include "merge/inputs.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/text_file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

int64_t count_layers(const Checkpoint& model) {
  int64_t layers = 0;
  for (const TensorInfo& t : model.tensors())
    layers = std::max(layers, tensor_layer(t.name).value_or(-1) + 1);
  return layers;
}

// The first key of config.json that changes what the weights mean and differs between two models.
std::optional<std::string> differing_key(const Checkpoint& a, const Checkpoint& b) {
  static constexpr std::array<std::string_view, 11> kKeys = {
      "model_type",          "hidden_act",          "rms_norm_eps",       "rope_theta",
      "rope_scaling",        "rope_parameters",     "head_dim",           "sliding_window",
      "num_attention_heads", "num_key_value_heads", "tie_word_embeddings"};
  for (const std::string_view key : kKeys) {
    const auto x = a.config().find(key), y = b.config().find(key);
    if (x != a.config().end() && y != b.config().end() && *x != *y) return std::string(key);
  }
  return std::nullopt;
}

std::optional<std::string> tokenizer_text(const Checkpoint& model) {
  const fs::path file = model.folder() / "tokenizer.json";
  if (!fs::exists(file)) return std::nullopt;
  return read_text_file(file);
}

}  // namespace

MergeInputs::MergeInputs(const Recipe& recipe)
    : recipe_(recipe), method_(find_merge_method(recipe.merge_method)) {
  if (method_.needs_base && !recipe_.base_index) {
    throw usage_error("{}: merge_method {} needs base_model", recipe_.file.string(), method_.name);
  }
  for (const RecipeModel& m : recipe_.models) models_.push_back(Checkpoint::open(m.folder));
  choose_models();
  account();
  check_tokenizers();
  layers_ = count_layers(main());
  for (const TensorInfo& t : main().tensors()) {
    if (is_merged(t)) task(t, 0);  // every parameter is there
  }
}

void MergeInputs::choose_models() {
  for (size_t i = 0; i < models_.size(); ++i) {
    const bool is_base = recipe_.base_index == i;
    // mergekit appends a base_model that is not listed to the models of every method.
    const bool unlisted = !recipe_.models[i].listed;
    if (is_base && (method_.needs_base || (unlisted && !recipe_.parameters.contains("weight"))))
      continue;
    merged_.push_back(i);
  }
  if (merged_.empty())
    throw usage_error("{}: no model to merge into the base", recipe_.file.string());
}

void MergeInputs::account() const {
  for (const Checkpoint& model : models_) {
    for (const TensorInfo& t : main().tensors()) {
      const TensorInfo* other = model.find(t.name);
      if (!other)
        throw input_error("tensor {} is in {} but not in {}", t.name, main().label(),
                          model.label());
      if (other->shape != t.shape) {
        throw input_error("tensor {} is {} in {} but {} in {}", t.name, to_string(t.shape),
                          main().label(), to_string(other->shape), model.label());
      }
      if (is_arithmetic(other->dtype) != is_arithmetic(t.dtype) ||
          (!is_arithmetic(t.dtype) && other->dtype != t.dtype)) {
        throw input_error("tensor {} is {} in {} but {} in {}", t.name, dtype_name(t.dtype),
                          main().label(), dtype_name(other->dtype), model.label());
      }
    }
    for (const TensorInfo& t : model.tensors()) {
      if (!main().find(t.name))
        throw input_error("tensor {} is in {} but not in {}", t.name, model.label(),
                          main().label());
    }
  }
}

void MergeInputs::check_tokenizers() const {
  if (!recipe_.tokenizer_source || recipe_.tokenizer_source == "base") return;
  for (const Checkpoint& model : models_) {
    if (tokenizer_text(model) == tokenizer_text(main())) continue;
    throw usage_error(
        "{}: tokenizer_source {}: the tokenizers of {} and {} differ, and merging tokenizers is "
        "not supported yet",
        recipe_.file.string(), *recipe_.tokenizer_source, main().label(), model.label());
  }
}

bool MergeInputs::is_merged(const TensorInfo& tensor) const { return is_arithmetic(tensor.dtype); }

TensorInfo MergeInputs::output(const TensorInfo& tensor) const {
  TensorInfo out = tensor;
  if (!is_merged(tensor)) return out;
  if (recipe_.out_dtype || recipe_.dtype) {
    out.dtype = recipe_.out_dtype ? *recipe_.out_dtype : *recipe_.dtype;
  } else if (!base()) {
    const auto other_type = [&](size_t m) {
      return tensor_of(m, tensor).dtype != tensor_of(merged_[0], tensor).dtype;
    };
    const bool mixed = std::any_of(merged_.begin(), merged_.end(), other_type);
    out.dtype = mixed ? DType::kF32 : tensor_of(merged_[0], tensor).dtype;
  }
  return out;
}

TensorTask MergeInputs::task(const TensorInfo& tensor, uint64_t seed) const {
  TensorTask task;
  task.name = tensor.name;
  task.shape = tensor.shape;
  task.count = element_count(tensor.shape);
  const double t = depth(tensor);
  const auto global = [&](std::string_view name) {
    return resolve(recipe_, name, std::nullopt, tensor.name, t);
  };
  const auto flag = [](std::optional<double> v) {
    return v ? std::optional<bool>(*v != 0) : std::nullopt;
  };
  for (const size_t m : merged_) {
    const auto weight = resolve(recipe_, "weight", m, tensor.name, t);
    if (!weight) {
      throw usage_error("{}:{}: model {} has no weight for tensor {}; {} needs one",
                        recipe_.file.string(), recipe_.models[m].line, recipe_.models[m].model,
                        tensor.name, method_.name);
    }
    const double density = resolve(recipe_, "density", m, tensor.name, t).value_or(1.0);
    task.models.push_back({*weight, density, TensorRandom(seed, m, tensor.name)});
  }
  task.lambda = global("lambda").value_or(1.0);
  task.normalize = flag(global("normalize"));
  task.rescale = flag(global("rescale"));
  return task;
}

std::vector<std::string> MergeInputs::warnings() const {
  std::vector<std::string> lines;
  if (recipe_.base_index && !base() &&
      std::find(merged_.begin(), merged_.end(), *recipe_.base_index) == merged_.end()) {
    lines.push_back(fmt::format("{} takes no base: {} only gives config and tokenizer",
                                method_.name, main().label()));
  }
  const TensorTask any = task(main().tensors().front(), 0);
  if (method_.name == "ties" && merged_.size() == 1 && any.normalize.value_or(true) &&
      any.models[0].weight != 1) {
    lines.push_back(
        "ties with one model and normalize: true divides by the weight again, so weight has no "
        "effect");
  }
  for (const Checkpoint& model : models_) {
    const auto has_config = [](const Checkpoint& c) {
      return fs::exists(c.folder() / "config.json");
    };
    if (!has_config(model) || !has_config(main())) continue;
    if (const auto key = differing_key(main(), model)) {
      lines.push_back(
          fmt::format("config.json: '{}' differs between {} and {}; the merge has that of {}", *key,
                      main().label(), model.label(), main().label()));
    }
  }
  return lines;
}

}  // namespace lewis
