// `lewis.refine:` how the merge is made to reproduce its experts (docs/refine.md).
#include "recipe/parse/recipe_reader.h"

namespace lewis {

RefineSettings RecipeReader::refine_of(const YamlNode& node, const LewisSection& lewis,
                                       const Recipe& r) const {
  check_keys(node,
             {"method", "prior", "samples", "ridge", "alpha", "question_weight", "held_out",
              "biases", "norms", "head"},
             "lewis.refine");
  RefineSettings s;
  if (const YamlNode* n = given(node, "method"))
    s.method = choice<RefineMethod>(*n, "lewis.refine.method");
  if (const YamlNode* n = given(node, "prior"))
    s.prior = choice<RefinePrior>(*n, "lewis.refine.prior");
  if (s.method == RefineMethod::kRegmean) s.ridge = 0;
  if (const YamlNode* n = given(node, "samples")) s.samples = count(*n, "samples");
  if (const YamlNode* n = given(node, "ridge")) s.ridge = number(*n, "ridge");
  if (s.ridge < 0) fail(node.find("ridge")->line, fmt::format("ridge {} is below 0", s.ridge));
  if (const YamlNode* n = given(node, "alpha")) {
    if (s.method != RefineMethod::kRegmean) fail(n->line, "alpha belongs to the method regmean");
    s.alpha = share(*n, "alpha");
  }
  if (const YamlNode* n = given(node, "question_weight"))
    s.question_weight = share(*n, "question_weight");
  if (const YamlNode* n = given(node, "held_out")) s.held_out = share(*n, "held_out");
  if (s.held_out == 1) fail(node.find("held_out")->line, "held_out 1 leaves nothing to fit to");
  for (const auto& [key, value] :
       {std::pair("biases", &s.biases), {"norms", &s.norms}, {"head", &s.head}}) {
    if (const YamlNode* n = given(node, key)) *value = flag(*n, key);
  }
  check_refine(node, lewis, r);
  return s;
}

void RecipeReader::check_refine(const YamlNode& node, const LewisSection& lewis,
                                const Recipe& r) const {
  if (!r.slices.empty() || !r.modules.empty())
    fail(node.line, "lewis.refine needs the form models: experts and merge of one shape");
  if (lewis.calibration.empty()) {
    fail(node.line,
         "lewis.refine needs lewis.calibration: each expert with text that shows its skill");
  }
  for (const CalibrationEntry& e : lewis.calibration) {
    if (e.has_statistics())
      fail(e.line, "lewis.refine needs text (data): statistics do not tell what a layer returns");
  }
}

}  // namespace lewis
