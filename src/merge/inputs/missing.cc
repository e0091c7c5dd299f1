// MergeInputs: what becomes of tensors that not all models have (the key `missing:` of a recipe).
// Without a rule a tensor that the base has and another model lacks is refused, unless it is of a
// part that programs need not load (io/extra_parts.h) and the model lacks the whole part: such a
// part comes from the base.
#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/human.h"
#include "base/json.h"
#include "io/extra_parts.h"
#include "io/layer_name.h"
#include "merge/inputs.h"

namespace lewis {
namespace {

std::string count_of(size_t n) { return fmt::format("{} tensor{}", n, n == 1 ? "" : "s"); }

// ", like 2 more (b, c)" for what is behind the first name; nothing where it is alone.
std::string like_more(const std::vector<std::string>& names, size_t most) {
  if (names.size() == 1) return "";
  return fmt::format(", like {} more ({})", names.size() - 1,
                     some_of({names.begin() + 1, names.end()}, most));
}

const MissingRule* rule_for(const Recipe& recipe, const std::string& tensor) {
  const auto fits = [&](const MissingRule& rule) {
    return tensor.find(rule.filter) != std::string::npos;
  };
  const auto rule = std::ranges::find_if(recipe.missing, fits);
  return rule == recipe.missing.end() ? nullptr : &*rule;
}

struct Verdict {
  Missing what = Missing::kRefuse;
  std::string words, why;  // of the group of tensors that have the same verdict
};

}  // namespace

// The tensors that the main model has and the others lack, in groups of one note each.
class MergeInputs::Absent {
 public:
  explicit Absent(MergeInputs& inputs) : inputs_(inputs), main_(inputs.main()) {}

  void look_at(const InputModel& model) {
    std::vector<std::string> refused;
    for (const TensorInfo* t : inputs_.tensors_of(main_)) {
      if (model.source->find(t->name)) continue;
      const Verdict verdict = judge(t->name, model);
      if (verdict.what == Missing::kRefuse) {
        refused.push_back(t->name);
        continue;
      }
      Missing& kept = inputs_.missing_.try_emplace(t->name, verdict.what).first->second;
      if (verdict.what == Missing::kBase) kept = Missing::kBase;
      auto& [names, models] = groups_[{verdict.what, verdict.words, verdict.why}];
      names.insert(t->name);
      if (std::ranges::find(models, model.label()) == models.end()) models.push_back(model.label());
    }
    if (!refused.empty()) throw refusal(refused, model);
    whole_.clear();
  }

  // A line for each group.
  void tell() const {
    for (const auto& [key, group] : groups_) {
      const auto& [what, words, why] = key;
      const auto& [names, models] = group;
      const std::string of = words.empty() ? "" : " of " + words;
      const std::string then =
          what == Missing::kBase ? fmt::format("the result has {} of {}",
                                               names.size() == 1 ? "that" : "those", main_.label())
                                 : "a model that lacks one changes nothing there";
      inputs_.notes_.push_back(fmt::format(
          "{}{} ({}) {} in {} but not in {}: {}; {}", count_of(names.size()), of,
          some_of(std::vector(names.begin(), names.end()), 2), names.size() == 1 ? "is" : "are",
          main_.label(), fmt::join(models, ", "), why, then));
    }
  }

 private:
  struct Group {
    std::set<std::string> names;
    std::vector<std::string> models;
  };

  Verdict judge(const std::string& tensor, const InputModel& model) {
    if (const MissingRule* rule = rule_for(inputs_.recipe_, tensor)) {
      const std::string filter = rule->filter.empty() ? "" : fmt::format(" '{}'", rule->filter);
      return {rule->what, "",
              fmt::format("the recipe's rule missing{} says {}", filter, name_of(rule->what))};
    }
    const auto part = extra_part(tensor, *main_.config);
    if (!part || !lacks_all_of(*part, model)) return {};
    const std::string why = why_not_loaded(*part, *model.config);
    return why.empty() ? Verdict() : Verdict{Missing::kBase, part->words, why};
  }

  // Whether the model has no tensor of this part.
  bool lacks_all_of(const ExtraPart& part, const InputModel& model) {
    const auto [known, is_new] = whole_.try_emplace(part.words, true);
    if (!is_new) return known->second;
    for (const TensorInfo* t : inputs_.tensors_of(main_)) {
      const auto its = extra_part(t->name, *main_.config);
      if (its && its->words == part.words && model.source->find(t->name)) known->second = false;
    }
    return known->second;
  }

  Error refusal(const std::vector<std::string>& names, const InputModel& model) const {
    return input_error(
        "tensor {} is in {} but not in {}{}; `missing: base` takes such tensors from {}, "
        "`missing: zero` takes {} for unchanged there",
        names[0], main_.label(), model.label(), like_more(names, 4), main_.label(), model.label());
  }

  MergeInputs& inputs_;
  const InputModel& main_;
  std::map<std::tuple<Missing, std::string, std::string>, Group> groups_;
  std::map<std::string, bool> whole_;  // of the model that is looked at, by ExtraPart::words
};

// What a model has and the main model lacks: there is no base for it, so it can only be left out.
void MergeInputs::check_surplus(const InputModel& model) {
  std::vector<std::string> refused, left_out;
  for (const TensorInfo* t : tensors_of(model)) {
    if (main().source->find(t->name)) continue;
    const MissingRule* rule = rule_for(recipe_, t->name);
    (rule && rule->what == Missing::kBase ? left_out : refused).push_back(t->name);
  }
  if (!refused.empty()) {
    throw input_error(
        "tensor {} is in {} but not in {}{}; the result has the tensors of {}: `missing: base` "
        "leaves others out",
        refused[0], model.label(), main().label(), like_more(refused, 8), main().label());
  }
  if (left_out.empty()) return;
  notes_.push_back(fmt::format("{} of {} ({}) left out, as {} lacks {} (missing: base)",
                               count_of(left_out.size()), model.label(),
                               some_of(left_out, 3) + (left_out.size() == 1 ? " is" : " are"),
                               main().label(), left_out.size() == 1 ? "it" : "them"));
}

void MergeInputs::account() {
  Absent absent(*this);
  for (const InputModel& model : opened_) {
    if (&model == main_) continue;
    absent.look_at(model);
    check_surplus(model);
  }
  absent.tell();
}

// The tensor of a model, or what stands for it where the model lacks it.
MergeSource MergeInputs::source_of(size_t model, const std::string& tensor) const {
  const InputModel& own = *models_[model];
  if (const TensorInfo* found = own.source->find(tensor)) return {&own, found, model, 0};
  return {main_, &main_->source->get(tensor), model, 0};
}

// Makes the output have the main model's tensor as it is.
void MergeInputs::take_from_main(OutputTensor& tensor) const {
  const auto main = static_cast<size_t>(main_ - opened_.data());
  tensor.models = {source_of(main, tensor.info.name)};
  tensor.base.reset();
  tensor.base_alone = true;
}

std::vector<std::string> MergeInputs::mtp_layer_notes() const {
  if (!main_ || belongs_) return {};
  const Json& config = *main().config;
  const auto dropped = numbers_of_dropped_layers(config);
  if (dropped.empty()) return {};
  const int64_t layers = main().text_integer("num_hidden_layers");
  std::set<int64_t> named;
  for (const OutputTensor& t : tensors_) {
    const std::string& from = t.models[0].tensor->name;
    if (!is_mtp(from, config) || tensor_layer(from).value_or(0) < layers) continue;
    const int64_t layer = tensor_layer(t.info.name).value_or(0);
    if (std::ranges::find(dropped, layer) == dropped.end()) named.insert(layer);
  }
  if (named.empty()) return {};
  return {fmt::format(
      "the result has layers of multi-token prediction behind its last layer (layer {}); for "
      "model_type '{}' transformers drops layer {} without a word and names others as unexpected "
      "when it loads the model, which changes nothing",
      fmt::join(named, ", "), config.value("model_type", std::string()),
      fmt::join(std::set(dropped.begin(), dropped.end()), " or "))};
}

std::vector<std::string> MergeInputs::mtp_notes() const {
  if (!main_ || belongs_) return {};
  const auto promises = mtp_promises(*main().config);
  if (promises.empty()) return {};
  const auto stored = [&](const OutputTensor& t) {
    return is_mtp(t.models[0].tensor->name, *main().config);
  };
  if (std::ranges::any_of(tensors_, stored)) return {};
  return {fmt::format(
      "config.json of {} says {}, but the result has no tensor of multi-token prediction: its "
      "config.json says 0",
      main().label(), fmt::join(promises, ", "))};
}

}  // namespace lewis
