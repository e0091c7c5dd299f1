// `lewis.refine:` how the merge is made to reproduce its experts (docs/refine.md).
#include "recipe/parse/recipe_reader.h"

namespace lewis {
namespace {

constexpr std::string_view kAuto = "auto";  // the held-out text chooses

bool is_auto(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kScalar && node.scalar == kAuto;
}

}  // namespace

RefineSettings RecipeReader::refine_of(const YamlNode& node, const LewisSection& lewis,
                                       const Recipe& r) const {
  check_keys(node,
             {"method", "prior", "samples", "ridge", "alpha", "weighting", "prior_scale", "passes",
              "question_weight", "held_out", "biases", "norms", "head", "routers"},
             "lewis.refine");
  RefineSettings s;
  if (const YamlNode* n = given(node, "method"))
    s.method = choice<RefineMethod>(*n, "lewis.refine.method");
  if (const YamlNode* n = given(node, "prior"))
    s.prior = choice<RefinePrior>(*n, "lewis.refine.prior");
  if (const YamlNode* n = given(node, "samples")) s.samples = count(*n, "samples");
  read_chosen(node, s);
  if (const YamlNode* n = given(node, "passes")) s.passes = count(*n, "passes", 1);
  if (s.passes > kMostPasses)
    fail(node.find("passes")->line, fmt::format("passes {} is above {}", s.passes, kMostPasses));
  if (const YamlNode* n = given(node, "question_weight"))
    s.question_weight = share(*n, "question_weight");
  if (const YamlNode* n = given(node, "held_out")) s.held_out = share(*n, "held_out");
  if (s.held_out == 1) fail(node.find("held_out")->line, "held_out 1 leaves nothing to fit to");
  for (const auto& [key, value] : {std::pair("biases", &s.biases),
                                   {"norms", &s.norms},
                                   {"head", &s.head},
                                   {"routers", &s.routers}}) {
    if (const YamlNode* n = given(node, key)) *value = flag(*n, key);
  }
  check_refine(node, lewis, r);
  return s;
}

// The numbers that a recipe gives, or leaves to the held-out text.
void RecipeReader::read_chosen(const YamlNode& node, RefineSettings& s) const {
  const bool regression = s.method == RefineMethod::kRegression;
  if (s.method == RefineMethod::kRegmean) s.ridge = 0;
  if (const YamlNode* n = given(node, "ridge")) {
    if (is_auto(*n) && !regression)
      fail(n->line, "ridge: auto belongs to the method regression, which alone chooses");
    s.ridge = is_auto(*n) ? std::nullopt : std::optional(number(*n, "ridge"));
    if (s.ridge && *s.ridge < 0) fail(n->line, fmt::format("ridge {} is below 0", *s.ridge));
  }
  if (const YamlNode* n = given(node, "alpha")) {
    if (s.method == RefineMethod::kRegmeanPp)
      fail(n->line, "alpha belongs to the methods regression and regmean; regmean_pp is alpha 0");
    if (regression) {
      s.alpha = is_auto(*n) ? std::nullopt : std::optional(share(*n, "alpha"));
    } else {
      s.off_diagonal = share(*n, "alpha");
    }
  }
  for (const std::string_view key : {"weighting", "prior_scale"}) {
    const YamlNode* n = given(node, key);
    if (n && !regression) fail(n->line, fmt::format("{} belongs to the method regression", key));
  }
  if (const YamlNode* n = given(node, "weighting"))
    s.weighting = is_auto(*n)
                      ? std::nullopt
                      : std::optional(choice<RefineWeighting>(*n, "lewis.refine.weighting"));
  if (const YamlNode* n = given(node, "prior_scale")) {
    s.prior_scale = is_auto(*n) ? std::nullopt : std::optional(number(*n, "prior_scale"));
    if (s.prior_scale && *s.prior_scale < 0)
      fail(n->line, fmt::format("prior_scale {} is below 0", *s.prior_scale));
  }
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
