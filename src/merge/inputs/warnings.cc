// MergeInputs: notes on what is allowed but may surprise.
#include <algorithm>
#include <array>
#include <set>

#include "base/json.h"
#include "merge/inputs.h"

namespace lewis {
namespace {

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

// A model most of whose tensors have the type of the main model's, but not all.
std::optional<std::string> differing_types(const InputModel& main, const InputModel& model) {
  size_t differing = 0, all = 0;
  const TensorInfo *first = nullptr, *in_main = nullptr;
  for (const TensorInfo& t : model.source->tensors()) {
    const TensorInfo* other = main.source->find(t.name);
    if (!other || !is_arithmetic(t.dtype) || !is_arithmetic(other->dtype)) continue;
    ++all;
    if (t.dtype == other->dtype) continue;
    if (differing++ > 0) continue;
    first = &t;
    in_main = other;
  }
  if (differing == 0 || 2 * differing >= all) return std::nullopt;
  return fmt::format("{} of {}{} {} but {} in {}: values are widened to F32 and rounded once",
                     first->name, model.label(),
                     differing == 1 ? " is" : fmt::format(" and {} more are", differing - 1),
                     dtype_name(first->dtype), dtype_name(in_main->dtype), main.label());
}

// transformers 5 loads split experts only for models whose own files have them: it holds the
// experts of gpt-oss and Llama 4 the way they are stored, transposed, and those of Granite in
// layers of their own.
std::optional<std::string> split_and_not_loaded(const FusedExperts& stored) {
  for (const auto& [place, layout] : stored) {
    if (!layout.transposed && layout.first.starts_with("experts.")) continue;
    return fmt::format(
        "experts: split writes tensors like {}experts.0.up_proj.weight, which transformers does "
        "not load into this model: its own files have {}",
        place, layout.first);
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> MergeInputs::warnings() const {
  std::vector<std::string> lines;
  for (const auto& module : modules_) {
    for (const std::string& line : module->warnings()) {
      if (std::ranges::find(lines, line) == lines.end()) lines.push_back(line);
    }
  }
  for (const std::string& line : recipe_.notes) {
    if (std::ranges::find(lines, line) == lines.end()) lines.push_back(line);
  }
  std::ranges::copy(mtp_notes(), std::back_inserter(lines));
  std::ranges::copy(mtp_layer_notes(), std::back_inserter(lines));
  std::ranges::copy(rounding_notes(), std::back_inserter(lines));
  if (!modules_.empty()) return lines;
  std::ranges::copy(notes_, std::back_inserter(lines));
  std::ranges::copy(tokenizer_.warnings, std::back_inserter(lines));
  if (recipe_.experts == ExpertTensors::kSplit) {
    if (auto line = split_and_not_loaded(main().fused_experts)) lines.push_back(std::move(*line));
  }
  if (recipe_.base_index && method_.base == BaseRole::kWeighted &&
      std::find(merged_.begin(), merged_.end(), *recipe_.base_index) == merged_.end()) {
    lines.push_back(fmt::format("{} takes no base: {} only gives config and tokenizer",
                                method_.name, main().name));
  }
  const auto first =
      std::find_if(tensors_.begin(), tensors_.end(), [](const auto& t) { return t.merged; });
  if (first != tensors_.end() && method_.name == "ties" && merged_.size() == 1) {
    const TensorTask any = task(*first);
    if (any.flag("normalize") && any.models[0]["weight"] != 1) {
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
    if (auto types = differing_types(main(), model)) lines.push_back(std::move(*types));
    if (const auto key = differing_key(main(), model)) {
      lines.push_back(
          fmt::format("config.json: '{}' differs between {} and {}; the merge has that of {}", *key,
                      main().label(), model.label(), main().label()));
    }
  }
  return lines;
}

}  // namespace lewis
