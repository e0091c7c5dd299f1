// `lewis:` how calibration guides the merge (docs/lewis.md).
#include "recipe/parse/recipe_reader.h"

namespace lewis {

using Kind = YamlNode::Kind;

LewisSection RecipeReader::lewis_of(const YamlNode& node, const Recipe& r) const {
  check_keys(node,
             {"calibration", "protocol", "importance", "allocation", "gamma", "epsilon", "budget",
              "kappa", "scope", "uncovered", "trim", "coefficient", "aim", "refine", "seed",
              "skip_first_token", "skip_first", "normalise"},
             "lewis");
  LewisSection s;
  if (const YamlNode* n = given(node, "calibration")) s.calibration = calibration_list(*n, r);
  if (const YamlNode* n = given(node, "protocol"))
    s.protocol = choice<Protocol>(*n, "lewis.protocol");
  if (const YamlNode* n = given(node, "importance"))
    s.importance = choice<Importance>(*n, "lewis.importance");
  if (const YamlNode* n = given(node, "allocation"))
    s.allocation = choice<Allocation>(*n, "lewis.allocation");
  read_densities(node, s);
  read_skipped(node, s);
  if (const YamlNode* n = given(node, "seed")) s.seed = count(*n, "seed");
  read_extras(node, s);
  if (const auto n = section(node, "refine")) s.refine = refine_of(*n, s, r);
  return s;
}

void RecipeReader::read_densities(const YamlNode& node, LewisSection& s) const {
  const YamlNode *gamma = given(node, "gamma"), *epsilon = given(node, "epsilon");
  if (gamma) s.gamma = share(*gamma, "gamma");
  if (epsilon) s.epsilon = share(*epsilon, "epsilon");
  if (s.gamma > s.epsilon) {
    fail((gamma ? gamma : epsilon)->line,
         fmt::format(
             "gamma {} is above epsilon {}: gamma is the smallest density, epsilon the largest",
             s.gamma, s.epsilon));
  }
  if (const YamlNode* n = given(node, "uncovered")) {
    if (n->kind == Kind::kMap) {
      check_keys(*n, {"density"}, "lewis.uncovered");
      n = &need(*n, "density");
    }
    s.uncovered = share(*n, "uncovered");
  }
}

// "skip_first: N" or, for the first token alone, "skip_first_token: true".
void RecipeReader::read_skipped(const YamlNode& node, LewisSection& s) const {
  const YamlNode *one = given(node, "skip_first_token"), *some = given(node, "skip_first");
  if (one && some) fail(some->line, "skip_first and skip_first_token say the same: give one");
  const YamlNode* given_node = one ? one : some;
  const std::string_view key = one ? "skip_first_token" : "skip_first";
  if (one) s.skip_first = flag(*one, key) ? 1 : 0;
  if (some) s.skip_first = count(*some, key);
  if (s.skip_first == 0) return;
  if (s.protocol == Protocol::kReference)
    fail(given_node->line, fmt::format("{} belongs to the protocol clean", key));
  for (const CalibrationEntry& e : s.calibration) {
    if (e.has_statistics())
      fail(e.line, fmt::format("{} changes how a model is run, statistics are there already", key));
  }
}

// Settings that are off by default.
void RecipeReader::read_extras(const YamlNode& node, LewisSection& s) const {
  if (const YamlNode* n = given(node, "budget")) s.budget = share(*n, "budget");
  if (const YamlNode* n = given(node, "kappa")) s.kappa = number(*n, "kappa");
  if (const YamlNode* n = given(node, "scope")) {
    if (n->kind != Kind::kList || n->items.empty())
      fail(n->line, "scope must be a list of parts of names, as [mlp, self_attn.q_proj]");
    for (const YamlNode& item : n->items) s.scope.push_back(text(item, "scope"));
  }
  if (const YamlNode* n = given(node, "normalise")) {
    s.normalise = choice<Normalise>(*n, "lewis.normalise");
    if (s.normalise != Normalise::kMinMax && s.allocation == Allocation::kThreshold)
      fail(n->line,
           "normalise belongs to the allocations min_max and budget: threshold looks at no "
           "importance");
  }
  if (const YamlNode* n = given(node, "trim")) s.trim = choice<Trim>(*n, "lewis.trim");
  if (const YamlNode* n = given(node, "coefficient")) s.coefficient = coefficient_of(*n);
  if (const auto n = section(node, "aim")) {
    check_keys(*n, {"omega"}, "lewis.aim");
    s.aim = share(need(*n, "omega"), "omega");
  }
}

// "lines", or {method: lines, first: 0.5, last: 1}.
CoefficientSettings RecipeReader::coefficient_of(const YamlNode& node) const {
  CoefficientSettings c;
  if (node.kind != Kind::kMap) {
    c.method = choice<Coefficient>(node, "lewis.coefficient");
    return c;
  }
  check_keys(node, {"method", "first", "last"}, "lewis.coefficient");
  c.method = choice<Coefficient>(need(node, "method"), "lewis.coefficient");
  for (const auto& [key, member] :
       {std::pair("first", &CoefficientSettings::first), {"last", &CoefficientSettings::last}}) {
    const YamlNode* n = given(node, key);
    if (n && c.method != Coefficient::kLines)
      fail(n->line, fmt::format("'{}' belongs to the coefficient lines", key));
    if (n) c.*member = number(*n, key);
  }
  return c;
}

}  // namespace lewis
