#include "plan/plan.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/error.h"
#include "base/suggest.h"
#include "plan/decimal.h"
#include "plan/tables.h"

namespace lewis {
namespace {

template <typename Row>
std::vector<std::string_view> names_of(std::span<const Row> table) {
  std::vector<std::string_view> names;
  for (const Row& row : table) names.push_back(row.name);
  return names;
}

template <typename Row>
const Row& find_row(std::span<const Row> table, std::string_view name, std::string_view what,
                    const Recipe& recipe) {
  for (const Row& row : table) {
    if (row.name == name) return row;
  }
  throw usage_error("{}: lewis.{} '{}' is not known; did you mean '{}'?", recipe.file.string(),
                    what, name, nearest_name(name, names_of(table)));
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
  static constexpr std::array kTable = {ImportanceRow{"norm_shift", norm_shift}};
  return kTable;
}

std::span<const AllocationRow> allocation_table() {
  static constexpr std::array kTable = {AllocationRow{"min_max", allocate_min_max}};
  return kTable;
}

std::vector<std::string_view> importance_names() { return names_of(importance_table()); }
std::vector<std::string_view> allocation_names() { return names_of(allocation_table()); }

void check_plan_settings(const Recipe& recipe) {
  if (!recipe.lewis) return;
  find_row(importance_table(), recipe.lewis->importance, "importance", recipe);
  find_row(allocation_table(), recipe.lewis->allocation, "allocation", recipe);
}

ModelPlan plan_model(const Recipe& recipe, size_t model, const ImportanceInput& input) {
  const LewisSection& lewis = recipe.lewis.value();
  ModelPlan plan;
  plan.model = model;
  find_row(importance_table(), lewis.importance, "importance", recipe).compute(input, plan);
  plan.density = find_row(allocation_table(), lewis.allocation, "allocation", recipe)
                     .allocate(plan.importance, lewis.gamma, lewis.epsilon);
  for (const TensorInfo& t : input.expert.tensors()) plan.tensors.push_back(t.name);
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

Recipe apply_plans(const Recipe& recipe, const std::vector<ModelPlan>& plans) {
  Recipe guided = recipe;
  for (const ModelPlan& plan : plans) {
    std::vector<Condition> conditions;
    for (const auto& [module, density] : plan.density)
      conditions.push_back({filter_for(module, plan.tensors), density});
    conditions.push_back({"", recipe.lewis.value().uncovered});
    set_density(guided, recipe.models.at(plan.model), conditions);
  }
  guided.text = to_yaml(guided, false);
  return guided;
}

// The exact binary value printed to `digits` decimals is correctly rounded by the C library, ties
// to even, as CPython's round() is.
double round_decimals(double value, int digits) {
  return std::strtod(fmt::format("{:.{}f}", value, digits).c_str(), nullptr);
}

std::string component_of(const std::string& module) {
  const std::string end = module.substr(module.rfind('.') + 1);
  for (const char* place : {"experts.", "shared_expert."}) {
    if (module.find(std::string(".") + place) != std::string::npos) return place + end;
  }
  return end;
}

}  // namespace lewis
