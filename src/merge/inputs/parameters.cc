// MergeInputs: resolves the method's parameters for a tensor, and explains where they come from.
#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "merge/inputs.h"

namespace lewis {
namespace {

// The factors of the columns of a tensor; null where it has none.
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

std::vector<ParameterLevel> MergeInputs::levels(const OutputTensor& t,
                                                const MergeSource* source) const {
  if (recipe_.slices.empty()) {
    return parameter_levels(recipe_, source ? std::optional(source->model) : std::nullopt);
  }
  return slice_levels(recipe_, t.slice, source ? std::optional(source->place) : std::nullopt);
}

// Places in t.models, by the names that the recipe gives the models.
std::vector<size_t> MergeInputs::order_by_name(const OutputTensor& t) const {
  std::vector<size_t> order(t.models.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](size_t i) -> const std::string& {
    return recipe_.models[t.models[i].model].model;
  });
  return order;
}

TensorTask MergeInputs::task(const OutputTensor& t, size_t result) const {
  if (!modules_.empty()) return modules_[t.module]->task(t, result);
  const MergeMethod& method = method_of(t);
  TensorTask task;
  if (t.base) task.relaxation = factors_of(recipe_.relaxation, *t.base->tensor);
  task.name = t.info.name;
  task.shape = t.info.shape;
  task.count = element_count(t.info.shape);
  for (const MergeSource& s : t.models) {
    ModelParameters values(TensorRandom(options_.seed, s.model, t.info.name));
    values.trim_factors = factors_of(recipe_.models[s.model].trim_factors, *s.tensor);
    const auto of_model = levels(t, &s);
    for (const MethodParameter& p : method.model_parameters) take_value(p, of_model, t, &s, values);
    task.models.push_back(values);
  }
  const auto of_all = levels(t, nullptr);
  for (const MethodParameter& p : method.whole_parameters) take_value(p, of_all, t, nullptr, task);
  if (task.find("double_sums").value_or(0) != 0) task.by_name = order_by_name(t);
  if (recipe_.outputs.empty()) return task;
  const RecipeOutput& output = recipe_.outputs[result];
  for (size_t i = 0; i < t.models.size(); ++i)
    task.models[i].set("weight", output.weights[t.models[i].model]);
  task.result = output.name;
  return task;
}

// Sets the value that the levels have for a parameter, else the method's default. `source`: null
// for a parameter of the whole merge.
void MergeInputs::take_value(const MethodParameter& parameter,
                             const std::vector<ParameterLevel>& levels, const OutputTensor& t,
                             const MergeSource* source, ParameterValues& values) const {
  const std::string_view name = parameter.id.name();
  const std::string& tensor = source ? source->tensor->name : t.info.name;
  const auto found = find_value(levels, name, filter_names(tensor), t.depth);
  if (found || parameter.otherwise)
    return values.set(parameter.id, found ? found->value : *parameter.otherwise);
  const RecipeModel* model = source ? &recipe_.models[source->model] : nullptr;
  const int line = model ? model->line : recipe_.slices.empty() ? 1 : recipe_.slices[t.slice].line;
  throw usage_error("{}:{}: {}no {} for tensor {}; {} needs one", where(), line,
                    model ? fmt::format("model {} has ", model->model) : "", name, t.info.name,
                    method_.name);
}

std::vector<std::string> MergeInputs::explain(const OutputTensor& t) const {
  if (!modules_.empty()) return modules_[t.module]->explain(t);
  const MergeMethod& method = method_of(t);
  std::vector<std::string> lines = {
      fmt::format("{}: {} {}, {}", t.info.name, dtype_name(t.info.dtype), to_string(t.info.shape),
                  t.refined      ? "refined"
                  : t.base_alone ? "the base, as no model is merged into it"
                  : t.merged     ? fmt::format("merged by {}", method.name)
                                 : "copied"),
      fmt::format("depth t = {:.6g}", t.depth)};
  const auto value = [&](const MethodParameter& p, const MergeSource* s) {
    const auto all = levels(t, s);
    const auto found =
        find_value(all, p.id.name(), filter_names(s ? s->tensor->name : t.info.name), t.depth);
    if (!found && p.required()) return fmt::format("  {}: not given", p.id.name());
    if (!found) return fmt::format("  {} = {} by default", p.id.name(), *p.otherwise);
    const std::string filter = !found->condition ? ""
                               : found->condition->filter.empty()
                                   ? ", the condition without a filter"
                                   : fmt::format(", filter '{}'", found->condition->filter);
    return fmt::format("  {} = {} from {}{}", p.id.name(), found->value, all[found->level].name,
                       filter);
  };
  if (t.base)
    lines.push_back(fmt::format("base {} ({})", t.base->input->label(), t.base->tensor->name));
  for (const MergeSource& s : t.models) {
    lines.push_back(fmt::format("model {} ({})", s.input->label(), s.tensor->name));
    if (tokenizer_.plan && is_embedding(*s.tensor, tokenizer_.plan->rows()))
      lines.push_back("  " + describe_rows(*tokenizer_.plan, s.model));
    for (const MethodParameter& p : method.model_parameters) lines.push_back(value(p, &s));
  }
  if (!method.whole_parameters.empty()) lines.push_back("whole merge");
  for (const MethodParameter& p : method.whole_parameters) lines.push_back(value(p, nullptr));
  return lines;
}

}  // namespace lewis
