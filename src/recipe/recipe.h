// The recipe: what to merge and how. mergekit's YAML plus the section `lewis:`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/column_factors.h"
#include "base/dtype.h"
#include "recipe/tokenizer_settings.h"

namespace lewis {

// A number, or a gradient: values at equal distances over the depth of the model.
using Gradient = std::vector<double>;
using SettingValue = std::variant<double, Gradient>;

// One line of a filter list: `value` for the tensors whose name contains `filter` (any, if empty).
struct Condition {
  std::string filter;
  SettingValue value;
};

// A parameter as written: scalar, gradient, or list of conditions.
using ParameterSetting = std::variant<double, Gradient, std::vector<Condition>>;
using Parameters = std::map<std::string, ParameterSetting>;

struct Recipe;

struct RecipeModel {
  std::string model;             // as written: "PATH[@REVISION][+ADAPTER[@REVISION]]" or a stage
  std::filesystem::path folder;  // resolved; absolute or relative to the working directory
  Parameters parameters{};
  bool listed = true;                     // false: the base, appended because `models:` lacks it
  int line = 0;                           // of the recipe
  std::filesystem::path adapter{};        // a LoRA that is added to it; empty: none
  std::shared_ptr<const Recipe> stage{};  // what another document merges; then folder is empty
  // lewis.trim: activation, of a planned recipe: the magnitudes by which entries of its task
  // vector are ranked are times these.
  std::shared_ptr<const ColumnFactorMap> trim_factors{};
};

// Whether both are the same folder (or stage, or model in memory) with the same adapter.
bool is_same_model(const RecipeModel& a, const RecipeModel& b);

// slices[].sources[]: layers [begin, end) of a model.
struct SliceSource {
  size_t model = 0;  // into Recipe::models
  int64_t begin = 0, end = 0;
  Parameters parameters;
};

// slices[]: output layers, each merged from the layers of its sources at the same place.
struct OutputSlice {
  std::vector<SliceSource> sources;  // of equal length
  std::optional<size_t> base_index;  // its own base_model, into Recipe::models
  Parameters parameters;
  int line = 0;
  int64_t layers() const { return sources[0].end - sources[0].begin; }
};

// lewis.calibration[]: text that shows the skill of one fine-tuned model.
struct CalibrationEntry {
  std::string model;  // must be one of the recipe's
  size_t index = 0;   // into Recipe::models
  // Statistics that are there already, of the base and of the model; then there is no data.
  std::filesystem::path base_statistics, model_statistics;
  std::filesystem::path data;
  std::string format;                      // of text/dataset.h; "" : by the file's ending
  std::string prompt_field, answer_field;  // format jsonl
  uint64_t samples = 15;                   // 0: all
  uint64_t skip = 0;  // not in recipes: samples that were chosen before (held-out text)
  uint64_t seed = 42;
  uint64_t max_tokens = 512;
  int line = 0;

  bool has_statistics() const { return !model_statistics.empty(); }
};

// lewis.coefficient: factors of the weight of each tensor.
struct CoefficientSettings {
  std::string method = "none";   // lines, importance: plan/coefficient/
  double first = 0.5, last = 1;  // lines: in the first layer, in the last
};

// lewis.refine: how the merge is made to reproduce its experts (refine/).
struct RefineSettings {
  std::string method = "regression";  // or regmean, regmean_pp
  std::string prior = "guided";       // with densities by calibration, or plain: as written
  uint64_t samples = 32;              // of each calibration entry; 0: all
  double ridge = 0.01;                // pulls towards the merge; regmean: 0
  double alpha = 0.9;                 // regmean: scale of the Gram matrices' off-diagonals
  double question_weight = 0.1;       // of a question's tokens; an answer's weigh 1
  double held_out = 0.125;            // share of each text that decides what is kept
  bool biases = true, norms = true, head = true;  // what else is solved; head: an untied one

  bool operator==(const RefineSettings&) const = default;
};

struct LewisSection {
  std::vector<CalibrationEntry> calibration;
  std::string protocol = "clean";
  std::string importance = "norm_shift";
  std::string allocation = "min_max";
  double gamma = 0.3;                // smallest density
  double epsilon = 0.8;              // largest density
  double uncovered = 1.0;            // of tensors without an importance
  double budget = 0.5;               // budget, threshold: mean density over the covered parameters
  double kappa = 0.1;                // budget: density per standard deviation of importance
  std::vector<std::string> scope{};  // parts of names of what is covered; none: everything
  std::string trim = "magnitude";    // or activation: |d| sqrt(s) inside a tensor
  CoefficientSettings coefficient{};
  std::optional<double> aim;      // omega of AIM's relaxation
  bool skip_first_token = false;  // clean protocol: do not count position 0
  uint64_t seed = 0;              // of random masks
  std::optional<RefineSettings> refine;
};

// One of several modules: the tensors whose names begin with its prefix, merged by a recipe of
// their own (merge/modules.h).
struct RecipeModule {
  std::string name;
  std::shared_ptr<const Recipe> recipe;
};

struct Recipe {
  std::filesystem::path file;  // "" when built from text
  std::string text;            // as read, for mergekit_config.yml; of a stage: ""
  std::string name;            // by which other documents use the result
  int line = 1;                // where the document begins
  std::string merge_method;
  std::vector<RecipeModel> models;  // in the order written; the base appended if not listed
  std::optional<std::string> base_model;
  std::optional<size_t> base_index;   // into models
  std::vector<OutputSlice> slices;    // empty: the form models
  std::vector<RecipeModule> modules;  // several; then there are neither models nor slices here
  Parameters module_parameters;       // modules.NAME.parameters
  Parameters parameters;
  std::optional<DType> dtype, out_dtype;
  std::optional<TokenizerSettings> tokenizer;  // tokenizer_source, or tokenizer
  std::optional<std::string> chat_template;    // "auto", the name of a built-in one, or Jinja
  std::optional<LewisSection> lewis;
  // lewis.aim, of a planned recipe: what the merged task vector is multiplied by.
  std::shared_ptr<const ColumnFactorMap> relaxation{};
};

// Whether what is merged is to be refined (lewis.refine).
inline bool refines(const Recipe& recipe) {
  return recipe.lewis && recipe.lewis->refine.has_value();
}

// Parses and validates. Of several documents the one without a name (or the one that no other uses)
// is the recipe; the others are its stages. Throws Error(kUsage): one line that begins with
// "FILE:LINE:", names the key and the nearest known one. Model and data paths that do not exist are
// refused too. Relative paths are resolved against the working directory first, as mergekit does,
// then against the recipe's folder.
Recipe read_recipe(const std::filesystem::path& file);
// `in_memory`: names of models that the caller opens (OpenOptions::in_memory). They have no folder,
// and they come before folders of the same name.
Recipe parse_recipe(std::string_view text, const std::filesystem::path& file,
                    const std::vector<std::string>& in_memory = {});

// Depth of a tensor for gradients: layer / (layers - 1); 1 if there is one layer; 0 for tensors
// outside the layers (embeddings, final norm, head).
double tensor_depth(std::string_view tensor_name, int64_t layers);
// The layer number in a name ("model.layers.11.mlp.up_proj.weight": 11), if there is one.
std::optional<int64_t> tensor_layer(std::string_view tensor_name);

// The value of a setting for a tensor at depth t in [0, 1]; nullopt when no condition matches.
std::optional<double> evaluate(const ParameterSetting& setting, std::string_view tensor_name,
                               double t);

// Where a parameter's value comes from: the levels that may hold it, in order of precedence.
struct ParameterLevel {
  const Parameters* parameters = nullptr;
  std::string name;  // for people: "models[0]"
};
struct FoundValue {
  double value = 0;
  size_t level = 0;                      // into the levels
  const Condition* condition = nullptr;  // that decided, if the setting is a list of them
};
std::optional<FoundValue> find_value(const std::vector<ParameterLevel>& levels,
                                     std::string_view parameter, std::string_view tensor_name,
                                     double t);

// All folders that the recipe reads, those of stages, modules and adapters too.
std::vector<std::filesystem::path> source_folders(const Recipe& recipe);

// The levels for one model of the form models (model given) or for the whole merge.
std::vector<ParameterLevel> parameter_levels(const Recipe& recipe, std::optional<size_t> model);
// The levels for one source of a slice, or for what its slice as a whole has.
std::vector<ParameterLevel> slice_levels(const Recipe& recipe, size_t slice,
                                         std::optional<size_t> source);

// The value by parameter_levels. Global parameters (lambda, normalize, ...) are read with model
// nullopt.
std::optional<double> resolve(const Recipe& recipe, std::string_view parameter,
                              std::optional<size_t> model, std::string_view tensor_name, double t);

// Changes when trim_factors or relaxation do, which YAML does not hold; "" when there are none.
std::string hash_of_factors(const Recipe& recipe);

// The recipe as YAML that mergekit accepts; the lewis: section is left out when `stock` is true.
std::string to_yaml(const Recipe& recipe, bool stock);

}  // namespace lewis
