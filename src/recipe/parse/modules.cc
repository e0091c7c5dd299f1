// `modules:`: the parts of a model that are merged apart. One module is the whole model.
#include "recipe/parse/recipe_reader.h"

namespace lewis {

void RecipeReader::read_modules(const YamlNode& map, const YamlNode& root, Recipe& r) const {
  if (map.kind != YamlNode::Kind::kMap || map.entries.empty())
    fail(map.line, "'modules' must be a map of modules");
  if (map.entries.size() == 1) return read_module(map.entries[0].second, r);
  for (const auto& [name, node] : map.entries) {
    auto part = std::make_shared<Recipe>(r);
    part->models.clear();
    part->modules.clear();
    part->line = name.line;
    read_module(node, *part);
    add_base(root, *part);
    name_expert_order(*part);
    for (RecipeModel m : part->models) {
      m.parameters.clear();
      lewis::add_model(std::move(m), r);
    }
    r.modules.push_back({text(name, "the name of a module"), std::move(part)});
  }
}

void RecipeReader::read_module(const YamlNode& module, Recipe& r) const {
  check_keys(module, {"models", "parameters", "slices"}, "a module");
  r.module_parameters = parameters_in(module, ParameterScope::kWhole);
  const YamlNode *models = given(module, "models"), *slices = given(module, "slices");
  if (!models == !slices) fail(module.line, "a module has either models or slices");
  models ? read_models(*models, r) : read_slices(*slices, r);
}

}  // namespace lewis
