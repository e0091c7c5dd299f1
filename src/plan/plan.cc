#include "plan/plan.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "plan/normalise.h"
#include "plan/tables.h"

namespace lewis {
namespace {

template <typename Row, typename Choice>
const Row& find_row(std::span<const Row> table, Choice choice) {
  const auto row = std::ranges::find(table, choice, &Row::choice);
  if (row == table.end()) throw failed_error("nothing is planned by '{}'", name_of(choice));
  return *row;
}

// A filter that catches the module's weight and no other tensor: "model.layers.1.self_attn.q_proj"
// is no part of a name of layer 11, but it is of "model.layers.1.self_attn.q_proj.bias".
std::string filter_for(const std::string& module, std::span<const std::string> tensors) {
  for (const char* end : {"", ".weight"}) {
    const std::string filter = module + end;
    const auto caught = std::count_if(tensors.begin(), tensors.end(), [&](const std::string& t) {
      return t.find(filter) != std::string::npos;
    });
    if (caught == 1) return filter;
  }
  throw failed_error("no filter tells {}.weight from every other tensor of the model", module);
}

}  // namespace

std::span<const ImportanceRow> importance_table() {
  static constexpr std::array kTable = {
      ImportanceRow{Importance::kNormShift, norm_shift},
      ImportanceRow{Importance::kTaskVector, task_vector_norm},
      ImportanceRow{Importance::kActivationShift, activation_shift, true}};
  return kTable;
}

std::span<const AllocationRow> allocation_table() {
  static constexpr std::array kTable = {
      AllocationRow{Allocation::kMinMax,
                    [](const AllocationInput& in) {
                      return allocate_min_max(in.plan.importance, in.lewis.gamma, in.lewis.epsilon);
                    }},
      AllocationRow{Allocation::kBudget, allocate_budget},
      AllocationRow{Allocation::kThreshold, allocate_threshold},
      AllocationRow{Allocation::kNone, [](const AllocationInput&) { return LayerValues(); }}};
  return kTable;
}

std::span<const CoefficientRow> coefficient_table() {
  static constexpr std::array kTable = {
      CoefficientRow{Coefficient::kNone, [](const CoefficientSettings&, const ImportanceInput&,
                                            const ModelPlan&) { return LayerValues(); }},
      CoefficientRow{Coefficient::kLines, coefficient_lines},
      CoefficientRow{Coefficient::kImportance, coefficient_importance}};
  return kTable;
}

void check_plan_settings(const Recipe& recipe) {
  if (!recipe.lewis) return;
  const LewisSection& lewis = *recipe.lewis;
  const auto importance = find_row(importance_table(), lewis.importance);
  const std::string file = recipe.file.string();
  if (lewis.allocation == Allocation::kBudget &&
      (lewis.budget < lewis.gamma || lewis.budget > lewis.epsilon)) {
    throw usage_error(
        "{}: lewis.budget {} is outside [gamma, epsilon] = [{}, {}], which all densities are in",
        file, lewis.budget, lewis.gamma, lewis.epsilon);
  }
  if (importance.output_changes && lewis.protocol != Protocol::kClean)
    throw usage_error("{}: lewis.importance {} needs the protocol clean", file,
                      name_of(lewis.importance));
  for (const CalibrationEntry& entry : lewis.calibration) {
    if (!entry.has_statistics() || (!importance.output_changes && !lewis.aim)) continue;
    throw usage_error(
        "{}:{}: {} runs the models on text: give data instead of statistics", file, entry.line,
        lewis.aim ? "lewis.aim" : fmt::format("importance {}", name_of(lewis.importance)));
  }
  const bool asks =
      lewis.trim != Trim::kMagnitude || lewis.coefficient.method != Coefficient::kNone || lewis.aim;
  if (lewis.calibration.empty() && asks) {
    throw usage_error("{}: lewis.trim, coefficient and aim need lewis.calibration", file);
  }
}

bool needs_output_changes(const Recipe& recipe) {
  return find_row(importance_table(), recipe.lewis.value().importance).output_changes;
}

namespace {

// Drops the modules that lewis.scope does not name: they are not covered.
void keep_in_scope(const Recipe& recipe, ModelPlan& plan) {
  const auto& scope = recipe.lewis->scope;
  const auto within = [](const std::string& part) {
    return [&part](const auto& module) { return module.first.find(part) != std::string::npos; };
  };
  for (const std::string& part : scope) {
    if (std::ranges::none_of(plan.importance, within(part)))
      throw usage_error("{}: lewis.scope '{}' is part of no linear layer's name",
                        recipe.file.string(), part);
  }
  for (LayerValues* values : {&plan.importance, &plan.part_importance}) {
    std::erase_if(*values, [&](const auto& module) {
      return !scope.empty() && std::ranges::none_of(scope, [&](const std::string& part) {
        return within(part)(module);
      });
    });
  }
}

}  // namespace

ModelPlan plan_model(const Recipe& recipe, size_t model, const ImportanceInput& input) {
  const LewisSection& lewis = recipe.lewis.value();
  ModelPlan plan;
  plan.model = model;
  for (const TensorInfo& t : input.expert.tensors()) plan.tensors.push_back(t.name);
  const auto compute = [&] { find_row(importance_table(), lewis.importance).compute(input, plan); };
  input.importances ? input.importances(plan, compute) : compute();
  keep_in_scope(recipe, plan);
  if (lewis.trim == Trim::kActivation) plan.trim_factors = activation_factors(input);
  const AllocationRow& allocation = find_row(allocation_table(), lewis.allocation);
  ModelPlan even = plan;
  even.importance = normalised(plan.importance, lewis.normalise);
  plan.density = allocation.allocate({lewis, input, even});
  plan.coefficient = find_row(coefficient_table(), lewis.coefficient.method)
                         .compute(lewis.coefficient, input, plan);
  if (lewis.aim) keep_magnitudes(input, plan);
  return plan;
}

namespace {

// In all forms of a recipe: models, slices (whose filters see the names of the source), modules.
void set_density(Recipe& recipe, const RecipeModel& model, const ParameterSetting& density) {
  for (RecipeModule& module : recipe.modules) {
    Recipe part = *module.recipe;
    set_density(part, model, density);
    module.recipe = std::make_shared<const Recipe>(std::move(part));
  }
  for (OutputSlice& slice : recipe.slices) {
    for (SliceSource& source : slice.sources) {
      if (is_same_model(recipe.models[source.model], model)) source.parameters["density"] = density;
    }
  }
  if (!recipe.modules.empty() || !recipe.slices.empty()) return;
  for (RecipeModel& m : recipe.models) {
    if (is_same_model(m, model)) m.parameters["density"] = density;
  }
}

}  // namespace

namespace {

// `weight` of each tensor times its coefficient.
void set_weights(Recipe& recipe, const ModelPlan& plan) {
  LayerStacks stacks;
  for (const std::string& t : plan.tensors) stacks.add(t);
  std::vector<Condition> conditions;
  for (const std::string& t : plan.tensors) {
    const auto weight = resolve(recipe, "weight", plan.model, t, stacks.depth(t));
    const auto factor = plan.coefficient.find(t);
    if (!weight) continue;  // the merge will say so
    conditions.push_back({filter_for(t, plan.tensors),
                          *weight * (factor == plan.coefficient.end() ? 1 : factor->second)});
  }
  recipe.models.at(plan.model).parameters["weight"] = conditions;
}

}  // namespace

Recipe apply_plans(const Recipe& recipe, const std::vector<ModelPlan>& plans) {
  Recipe guided = recipe;
  for (const ModelPlan& plan : plans) {
    std::vector<Condition> conditions;
    for (const auto& [module, density] : plan.density)
      conditions.push_back({filter_for(module, plan.tensors), density});
    conditions.push_back({"", recipe.lewis.value().uncovered});
    if (!plan.density.empty()) set_density(guided, recipe.models.at(plan.model), conditions);
    if (!plan.coefficient.empty()) set_weights(guided, plan);
    if (!plan.trim_factors.empty()) {
      guided.models.at(plan.model).trim_factors =
          std::make_shared<const ColumnFactorMap>(plan.trim_factors);
    }
  }
  if (recipe.lewis && recipe.lewis->aim && !plans.empty())
    guided.relaxation =
        std::make_shared<const ColumnFactorMap>(aim_relaxation(plans, *recipe.lewis->aim));
  guided.text = to_yaml(guided, false);
  return guided;
}

std::string planned_yaml(const Recipe& recipe) {
  if (!recipe.lewis || (recipe.lewis->trim == Trim::kMagnitude && !recipe.lewis->aim))
    return to_yaml(recipe, true);
  Recipe planned = recipe;
  planned.lewis->allocation = Allocation::kNone;
  planned.lewis->importance = LewisSection().importance;
  planned.lewis->normalise = LewisSection().normalise;
  planned.lewis->coefficient = {};
  planned.lewis->scope.clear();
  return to_yaml(planned, false);
}

}  // namespace lewis
