// `models:` and `base_model:`, and how a model is written.
#include <algorithm>

#include "recipe/parse/recipe_reader.h"

namespace lewis {

using Kind = YamlNode::Kind;

// "PATH@REVISION" for a map {path, revision}; a text as it is.
std::string RecipeReader::path_text(const YamlNode& node, std::string_view what) const {
  if (node.kind != Kind::kMap) return text(node, what);
  check_keys(node, {"path", "revision"}, what);
  const std::string path = text(need(node, "path"), "path");
  const YamlNode* revision = given(node, "revision");
  return revision ? path + "@" + text(*revision, "revision") : path;
}

// A model as mergekit writes it, as one text or as a map of model and lora.
RecipeModel RecipeReader::model_of(const YamlNode& node, std::string_view what) const {
  RecipeModel m;
  m.line = node.line;
  std::string base, adapter;
  if (node.kind == Kind::kMap && !node.find("path")) {
    check_keys(node, {"model", "lora", "override_architecture"}, what);
    base = path_text(need(node, "model"), "model");
    if (const YamlNode* lora = given(node, "lora")) adapter = path_text(*lora, "lora");
    m.model = adapter.empty() ? base : base + "+" + adapter;
  } else {
    base = m.model = path_text(node, what);
    const size_t plus = base.find('+');
    if (plus != std::string::npos && !find_model(base)) {
      adapter = base.substr(plus + 1);
      base.resize(plus);
      if (base.empty() || adapter.empty() || adapter.find('+') != std::string::npos)
        fail(node.line, fmt::format("{} {}: expected MODEL+ADAPTER", what, m.model));
    }
  }
  m.stage = find_stage_(base, node.line);
  const bool in_memory = std::ranges::find(in_memory_, base) != in_memory_.end();
  if (!m.stage && !in_memory) m.folder = model_path(base, node.line, what);
  if (!adapter.empty()) m.adapter = folder_path(adapter, node.line, "adapter");
  return m;
}

size_t add_model(RecipeModel model, Recipe& r) {
  for (size_t i = 0; i < r.models.size(); ++i) {
    if (is_same_model(r.models[i], model)) return i;
  }
  r.models.push_back(std::move(model));
  return r.models.size() - 1;
}

size_t RecipeReader::add_model(const YamlNode& node, std::string_view what, Recipe& r) const {
  return lewis::add_model(model_of(node, what), r);
}

void RecipeReader::read_models(const YamlNode& list, Recipe& r) const {
  if (list.kind == Kind::kMap) return read_glob(list, r);
  if (list.kind != Kind::kList || list.items.empty())
    fail(list.line, "'models' must be a list of models, or {glob: PATTERN}");
  for (const YamlNode& item : list.items) {
    check_keys(item, {"model", "parameters"}, "a model");
    const size_t before = r.models.size();
    RecipeModel& m = r.models[add_model(need(item, "model"), "model", r)];
    if (r.models.size() == before)
      fail(item.line, fmt::format("model {} is listed twice", m.model));
    m.line = item.line;
    m.parameters = parameters_in(item, ParameterScope::kModel);
  }
}

void RecipeReader::add_base(const YamlNode& root, Recipe& r) const {
  const YamlNode* base = given(root, "base_model");
  if (!base) return;
  RecipeModel m = model_of(*base, "base_model");
  m.listed = false;
  r.base_model = m.model;
  r.base_index = lewis::add_model(std::move(m), r);
}

void name_expert_order(Recipe& r) {
  if (r.expert_order == ExpertOrder::kKeep || r.merge_method == "passthrough") return;
  const size_t main = r.base_index.value_or(0);
  const auto like = std::make_shared<const RecipeModel>(r.models.at(main));
  for (size_t m = 0; m < r.models.size(); ++m) {
    if (m != main) r.models[m].experts_like = like;
  }
}

}  // namespace lewis
