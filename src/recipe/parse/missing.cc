// `missing:`: one choice for all tensors, or a list of {filter, value} like that of a parameter.
#include "recipe/parse/recipe_reader.h"

namespace lewis {

std::vector<MissingRule> RecipeReader::missing_of(const YamlNode& node) const {
  using Kind = YamlNode::Kind;
  if (node.kind == Kind::kScalar) return {{"", choice<Missing>(node, "missing")}};
  if (node.kind == Kind::kList && node.items.empty()) fail(node.line, "missing is an empty list");
  std::vector<MissingRule> rules;
  const auto add = [&](const YamlNode& item) {
    check_keys(item, {"filter", "value"}, "a line of missing");
    MissingRule rule;
    if (const YamlNode* filter = given(item, "filter")) rule.filter = text(*filter, "filter");
    if (rule.filter == "*") rule.filter.clear();
    rule.what = choice<Missing>(need(item, "value"), "missing");
    rules.push_back(std::move(rule));
  };
  if (node.kind == Kind::kMap) add(node);
  for (const YamlNode& item : node.items) add(item);
  return rules;
}

}  // namespace lewis
