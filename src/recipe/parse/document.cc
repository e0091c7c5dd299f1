// One document: its keys, and which of the forms models, slices and modules it has.
#include "recipe/parse/recipe_reader.h"

namespace lewis {

Recipe RecipeReader::recipe(const YamlNode& root) const {
  check_keys(root,
             {"merge_method", "base_model", "models", "slices", "modules", "parameters", "dtype",
              "out_dtype", "tokenizer", "tokenizer_source", "chat_template", "missing", "experts",
              "expert_order", "outputs", "lewis", "name"},
             "the recipe");
  Recipe r;
  r.file = file_;
  r.line = root.line;
  if (const YamlNode* n = given(root, "name")) r.name = text(*n, "name");
  r.merge_method = text(need(root, "merge_method"), "merge_method");
  if (const YamlNode* n = given(root, "dtype")) r.dtype = dtype_of(*n, "dtype");
  if (const YamlNode* n = given(root, "out_dtype")) {
    r.fp8_block = text(*n, "out_dtype") == kFp8Block;
    if (!r.fp8_block) r.out_dtype = dtype_of(*n, "out_dtype");
  }
  r.tokenizer = parse_tokenizer(root, where(), ignored());
  if (const YamlNode* n = given(root, "chat_template")) r.chat_template = text(*n, "chat_template");
  if (const YamlNode* n = given(root, "missing")) r.missing = missing_of(*n);
  if (const YamlNode* n = given(root, "experts")) r.experts = choice<ExpertTensors>(*n, "experts");
  if (const YamlNode* n = given(root, "expert_order"))
    r.expert_order = choice<ExpertOrder>(*n, "expert_order");
  r.parameters = parameters_in(root, ParameterScope::kWhole);
  read_inputs(root, r);
  read_outputs(root, r);
  if (const auto n = section(root, "lewis")) {
    if (!r.outputs.empty())
      fail(n->line, "outputs are made by linear, which has no densities: remove the section lewis");
    r.lewis = lewis_of(*n, r);
  }
  return r;
}

void RecipeReader::read_inputs(const YamlNode& root, Recipe& r) const {
  const YamlNode* found = nullptr;
  for (const std::string_view key : {"models", "slices", "modules"}) {
    const YamlNode* n = given(root, key);
    if (n && found) fail(n->line, "a recipe has one of models, slices and modules, found several");
    if (n) found = n;
  }
  if (!found) fail(root.line, "'models' is missing (or slices, or modules)");
  if (found == given(root, "models")) read_models(*found, r);
  if (found == given(root, "slices")) read_slices(*found, r);
  if (found == given(root, "modules")) read_modules(*found, root, r);
  add_base(root, r);
  if (r.modules.empty()) name_expert_order(r);
}

DType RecipeReader::dtype_of(const YamlNode& node, std::string_view what) const {
  const auto dtype = dtype_from_torch_name(text(node, what));
  if (dtype && is_arithmetic(*dtype)) return *dtype;
  fail(node.line, fmt::format("{} {} is not known; expected bfloat16, float16 or float32{}", what,
                              shown(node), what == "out_dtype" ? ", or fp8_block" : ""));
}

}  // namespace lewis
