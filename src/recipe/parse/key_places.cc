// RecipeKeys. Unknown keys of a recipe: where a key belongs that is known at another place, and
// which keys are passed over on request because mergekit passes over them.
#include <algorithm>
#include <array>

#include "base/suggest.h"
#include "recipe/parameters.h"
#include "recipe/parse/recipe_keys.h"

namespace lewis {
namespace {

struct KeyPlace {
  std::string_view key, hint;
};
// What a message says of a key that stands at the wrong place. (Parameters come from their table,
// those that are keys elsewhere too are in both.)
constexpr auto kPlaces = std::to_array<KeyPlace>({
    {"merge_method", "a recipe has one merge_method, at its top"},
    {"base_model", "'base_model' belongs to the top of the recipe or to a slice"},
    {"models", "'models' belongs to the top of the recipe or to a module"},
    {"slices", "'slices' belongs to the top of the recipe or to a module"},
    {"modules", "'modules' belongs to the top of the recipe"},
    {"parameters", "'parameters' belongs to the recipe, a model, a slice, a source or a module"},
    {"dtype", "'dtype' belongs to the top of the recipe"},
    {"out_dtype", "'out_dtype' belongs to the top of the recipe"},
    {"tokenizer", "'tokenizer' belongs to the top of the recipe"},
    {"tokenizer_source", "'tokenizer_source' belongs to the top of the recipe"},
    {"chat_template", "'chat_template' belongs to the top of the recipe"},
    {"missing", "'missing' belongs to the top of the recipe"},
    {"experts", "'experts' belongs to the top of the recipe"},
    {"expert_order", "'expert_order' belongs to the top of the recipe"},
    {"name", "'name' belongs to the top of the recipe"},
    {"outputs", "'outputs' belongs to the top of the recipe"},
    {"average", "'average' belongs to an item of 'outputs'"},
    {"weights", "'weights' belongs to an item of 'outputs'; a model has the parameter 'weight'"},
    {"glob", "'glob' belongs to 'models': models: {glob: \"step-*\"}"},
    {"every", "'every' belongs to 'models' with a glob, or to an item of 'outputs'"},
    {"lewis", "'lewis' belongs to the top of the recipe"},
    {"model", "'model' belongs to an item of 'models' or of 'sources'"},
    {"sources", "'sources' belongs to an item of 'slices'"},
    {"layer_range", "'layer_range' belongs to an item of 'sources' in a slice"},
    {"residual_weight", "'residual_weight' belongs to a slice"},
    {"filter",
     "'filter' belongs to a value under 'parameters': density: [{filter: mlp, value: 1}]"},
    {"value", "'value' belongs to a value under 'parameters': density: [{filter: mlp, value: 1}]"},
    {"revision", "write the revision behind the model: MODEL@REVISION"},
    {"lora", "write the adapter behind the model: MODEL+ADAPTER"},
    {"adapter", "write the adapter behind the model: MODEL+ADAPTER"},
    {"tokens", "'tokens' belongs to 'tokenizer'"},
    {"pad_to_multiple_of", "'pad_to_multiple_of' belongs to 'tokenizer'"},
    {"calibration", "'calibration' belongs to the section 'lewis'"},
    {"protocol", "'protocol' belongs to the section 'lewis'"},
    {"importance", "'importance' belongs to the section 'lewis'"},
    {"allocation", "'allocation' belongs to the section 'lewis'"},
    {"budget", "'budget' belongs to the section 'lewis'"},
    {"kappa", "'kappa' belongs to the section 'lewis'"},
    {"scope", "'scope' belongs to the section 'lewis'"},
    {"uncovered", "'uncovered' belongs to the section 'lewis'"},
    {"trim", "'trim' belongs to the section 'lewis'"},
    {"coefficient", "'coefficient' belongs to the section 'lewis'"},
    {"aim", "'aim' belongs to the section 'lewis'"},
    {"refine", "'refine' belongs to the section 'lewis'"},
    {"skip_first_token", "'skip_first_token' belongs to the section 'lewis'"},
    {"skip_first", "'skip_first' belongs to the section 'lewis'"},
    {"normalise", "'normalise' belongs to the section 'lewis'"},
    {"omega", "'omega' belongs to lewis.aim"},
    {"alpha", "'alpha' belongs to lewis.refine"},
    {"ridge", "'ridge' belongs to lewis.refine"},
    {"prior", "'prior' belongs to lewis.refine"},
    {"prior_scale", "'prior_scale' belongs to lewis.refine"},
    {"weighting", "'weighting' belongs to lewis.refine"},
    {"passes", "'passes' belongs to lewis.refine"},
    {"question_weight", "'question_weight' belongs to lewis.refine"},
    {"held_out", "'held_out' belongs to lewis.refine"},
    {"data", "'data' belongs to an item of lewis.calibration"},
    {"format", "'format' belongs to an item of lewis.calibration"},
    {"samples", "'samples' belongs to an item of lewis.calibration, or to lewis.refine"},
    {"max_tokens", "'max_tokens' belongs to an item of lewis.calibration"},
    {"statistics", "'statistics' belongs to an item of lewis.calibration"},
});

// Where a key that is not known here belongs; empty where no place knows it.
std::string place_of(std::string_view key) {
  const auto place = std::ranges::find(kPlaces, key, &KeyPlace::key);
  const std::string_view hint = place == kPlaces.end() ? "" : place->hint;
  const ParameterRow* row = find_parameter(key);
  if (!row) return std::string(hint);
  const std::string_view where = row->scope == ParameterScope::kWhole ? " of the recipe" : "";
  if (hint.empty())
    return fmt::format("'{}' is a parameter: write it under 'parameters'{}", key, where);
  return fmt::format("{}; as a parameter of a method it is written under 'parameters'{}", hint,
                     where);
}

}  // namespace

void RecipeKeys::pass_over(int line, std::string_view message) const {
  ignored_->push_back(
      fmt::format("{}:{}: {} and is ignored, as by mergekit", where(), line, message));
}

void RecipeKeys::check_keys(const YamlNode& map, std::span<const std::string_view> known,
                            std::string_view what) const {
  if (map.kind != YamlNode::Kind::kMap) return YamlReader::check_keys(map, known, what);
  for (const auto& [key, _] : map.entries) {
    if (std::ranges::find(known, key.scalar) != known.end()) continue;
    const std::string place = place_of(key.scalar);
    // mergekit knows nothing of the section `lewis:`; what is written there was meant.
    const bool ours = what.starts_with("lewis") || what == "statistics";
    if (passes_over() && !ours) {
      pass_over(key.line, fmt::format("{} has no meaning in {}{}{}", in_quotes(key.scalar), what,
                                      place.empty() ? "" : ": ", place));
      continue;
    }
    fail(key.line, fmt::format("unknown key {} in {}; {}", in_quotes(key.scalar), what,
                               place.empty() ? fmt::format("did you mean '{}'?",
                                                           nearest_name(key.scalar, known))
                                             : place));
  }
}

}  // namespace lewis
