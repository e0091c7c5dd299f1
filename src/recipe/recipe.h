// The recipe: what to merge and how. mergekit's YAML plus the section `lewis:`.
#pragma once

#include <lewis/recipe.h>

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
#include "base/data_format.h"
#include "base/dtype.h"
#include "base/protocol.h"
#include "recipe/choices.h"
#include "recipe/layer_stacks.h"
#include "recipe/tokenizer_settings.h"

namespace lewis {

class FarFiles;  // io/range_source.h

// A gradient: values at equal distances over the depth of the model.
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

// out_dtype: matrices that the base has as float8 in blocks are written so again.
inline constexpr std::string_view kFp8Block = "fp8_block";

struct RecipeModel {
  std::string model;             // as written: "PATH[@REVISION][+ADAPTER[@REVISION]]" or a stage
  std::filesystem::path folder;  // resolved; absolute or relative to the working directory
  Parameters parameters{};
  bool listed = true;                     // false: the base, appended because `models:` lacks it
  int line = 0;                           // where the recipe names it
  std::filesystem::path adapter{};        // a LoRA that is added to it; empty: none
  std::shared_ptr<const Recipe> stage{};  // the document that merges it; then folder is empty
  // Planned recipes with `lewis.trim: activation` have factors by column: the magnitudes that rank
  // the entries of the model's task vector are multiplied by them.
  std::shared_ptr<const ColumnFactorMap> trim_factors{};
  // Has the weights that are not in `folder`, since they are read from the hub; null: none.
  std::shared_ptr<const FarFiles> far{};
  // The model in whose order the routed experts are shown (merge/sources/expert_order.h); null: as
  // they are stored.
  std::shared_ptr<const RecipeModel> experts_like{};
};

// Returns whether both are the same folder (or stage, or model in memory) with the same adapter.
bool is_same_model(const RecipeModel& a, const RecipeModel& b);

// One of slices[].sources[]: the layers [begin, end) of a model.
struct SliceSource {
  size_t model = 0;  // into Recipe::models
  int64_t begin = 0, end = 0;
  Parameters parameters;
};

// One of slices[]: output layers, each merged from the layers of its sources at the same place.
struct OutputSlice {
  std::vector<SliceSource> sources;  // of equal length
  std::optional<size_t> base_index;  // its own base_model, into Recipe::models
  Parameters parameters;
  int line = 0;
  int64_t layers() const { return sources[0].end - sources[0].begin; }
};

// One of lewis.calibration[]: the text that shows the skill of a fine-tuned model.
struct CalibrationEntry {
  std::string model;  // one of the recipe's models, as written
  size_t index = 0;   // into Recipe::models
  // Statistics of the base and of the model that exist already; then there is no data.
  std::filesystem::path base_statistics, model_statistics;
  std::filesystem::path data;
  std::optional<DataFormat> format;        // unset: by the file's ending
  std::string prompt_field, answer_field;  // format jsonl
  uint64_t samples = 15;                   // 0: all
  uint64_t skip = 0;  // not in recipes: samples that an earlier choice took (held-out text)
  uint64_t seed = 42;
  uint64_t max_tokens = 512;
  int line = 0;

  bool has_statistics() const { return !model_statistics.empty(); }
};

// lewis.coefficient: factors that the weight of each tensor is multiplied by.
struct CoefficientSettings {
  Coefficient method = Coefficient::kNone;
  double first = 0.5, last = 1;  // kLines: the factors of the first and of the last layer
};

inline constexpr double kDefaultRidge = 0.01;       // where nothing chooses
inline constexpr double kDefaultOffDiagonal = 0.9;  // RegMean's alpha
inline constexpr uint64_t kMostPasses = 8;

// lewis.refine: how the merge is made to reproduce its experts (refine/).
struct RefineSettings {
  RefineMethod method = RefineMethod::kRegression;
  RefinePrior prior = RefinePrior::kGuided;
  uint64_t samples = 32;  // samples of each calibration entry; 0: all
  // An unset number (`auto`) is chosen by the held-out text for the layers that share an input
  // (refine/choice.h); kRegression only.
  std::optional<double> ridge = kDefaultRidge;  // strength of the pull towards the merge
  double off_diagonal = kDefaultOffDiagonal;    // kRegmean: factor of the Gram matrices' entries
  double question_weight = 0.1;                 // weight of a question's tokens; an answer's have 1
  double held_out = 0.125;                      // share of each text that decides what is kept
  // Whether biases, norms, an untied head and the routers of a mixture are solved for as well.
  bool biases = true, norms = true, head = true, routers = true;
  std::optional<double> alpha = 1;  // share of the experts' inputs in those of the teacher
  std::optional<RefineWeighting> weighting = RefineWeighting::kTokens;
  std::optional<double> prior_scale = 1;  // of the merge's task vector that the pull is towards
  uint64_t passes = 1;                    // how often all blocks are gone through

  bool operator==(const RefineSettings&) const = default;
};

struct LewisSection {
  std::vector<CalibrationEntry> calibration;
  Protocol protocol = Protocol::kClean;
  Importance importance = Importance::kNormShift;
  Allocation allocation = Allocation::kMinMax;
  double gamma = 0.3;      // smallest density
  double epsilon = 0.8;    // largest density
  double uncovered = 1.0;  // density of tensors without an importance
  double budget = 0.5;     // kBudget, kThreshold: mean density over the covered parameters
  double kappa = 0.1;      // kBudget: density per standard deviation of importance
  std::vector<std::string> scope{};  // parts of the names that are covered; empty: all are
  Trim trim = Trim::kMagnitude;
  CoefficientSettings coefficient{};
  std::optional<double> aim;  // omega of AIM's relaxation
  uint64_t skip_first = 0;    // clean protocol: first tokens of a sequence, not counted
  Normalise normalise = Normalise::kMinMax;
  uint64_t seed = 0;  // seed of random masks
  std::optional<RefineSettings> refine;
};

// One of several modules: tensors that are told by their names (merge/modules.h) and merged by a
// recipe of their own.
struct RecipeModule {
  std::string name;
  std::shared_ptr<const Recipe> recipe;
};

// One line of `missing:`: what becomes of tensors that the base has and another model lacks, if
// their names contain `filter` (any, if it is empty).
struct MissingRule {
  std::string filter;
  Missing what = Missing::kRefuse;
};

// One of outputs[]: a weighted mean of the recipe's models (recipe/outputs.h).
struct RecipeOutput {
  std::string name;             // of its folder in OUT
  std::vector<double> weights;  // as Recipe::models; 0 for a base that is not listed
  std::string origin;           // for people: "ema, alpha 0.2, the last 10"
  int line = 0;
};

struct Recipe {
  std::filesystem::path file;  // "" when built from text
  std::string text;            // as read, for mergekit_config.yml; "" for a stage
  std::string name;            // the name by which other documents use the result
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
  bool fp8_block = false;  // out_dtype: fp8_block (merge/fp8_blocks.h); then out_dtype is unset
  std::optional<TokenizerSettings> tokenizer;  // tokenizer_source, or tokenizer
  std::optional<std::string> chat_template;    // "auto", the name of a built-in one, or Jinja
  std::vector<MissingRule> missing;            // the first that fits counts
  std::optional<ExpertTensors> experts;        // unset: as in the base
  ExpertOrder expert_order = ExpertOrder::kAlign;
  std::vector<RecipeOutput> outputs;  // several models are written; empty: one
  std::optional<LewisSection> lewis;
  std::vector<std::string> notes;  // on keys that are ignored (UnknownKeys::kNoted), one line each
  // Planned recipes with lewis.aim: factors that the merged task vector is multiplied by.
  std::shared_ptr<const ColumnFactorMap> relaxation{};
};

// Returns whether the merge is to be refined (lewis.refine).
inline bool refines(const Recipe& recipe) {
  return recipe.lewis && recipe.lewis->refine.has_value();
}

// Parses and validates. Of several documents the one without a name (or the one that no other uses)
// is the recipe; the others are its stages. Throws Error(kUsage): one line that begins with
// "FILE:LINE:", names the key and the nearest known one. Model and data paths that do not exist are
// refused too. Relative paths are resolved against the working directory first, as mergekit does,
// then against the recipe's folder.
// With UnknownKeys::kNoted, keys that mergekit ignores are lines of Recipe::notes.
Recipe read_recipe(const std::filesystem::path& file, UnknownKeys unknown = UnknownKeys::kRefused);
// `in_memory`: names of models that the caller opens (OpenOptions::in_memory). They have no folder,
// and they come before folders of the same name.
Recipe parse_recipe(std::string_view text, const std::filesystem::path& file,
                    const std::vector<std::string>& in_memory = {},
                    UnknownKeys unknown = UnknownKeys::kRefused);

// The value of a setting for a tensor at depth t in [0, 1]; nullopt when no condition matches.
std::optional<double> evaluate(const ParameterSetting& setting, std::string_view tensor_name,
                               double t);

// One of the places that may hold a parameter's value; they are listed in order of precedence.
struct ParameterLevel {
  const Parameters* parameters = nullptr;
  std::string name;  // for people: "models[0]"
};
struct FoundValue {
  double value = 0;
  size_t level = 0;                      // into the levels
  const Condition* condition = nullptr;  // the condition that decided, if there are any
};
std::optional<FoundValue> find_value(const std::vector<ParameterLevel>& levels,
                                     std::string_view parameter, std::string_view tensor_name,
                                     double t);

// All folders that the recipe reads, including those of stages, modules and adapters.
std::vector<std::filesystem::path> source_folders(const Recipe& recipe);

// The levels for one model of the form models (model given) or for the whole merge.
std::vector<ParameterLevel> parameter_levels(const Recipe& recipe, std::optional<size_t> model);
// The levels for one source of a slice, or (source unset) for the slice as a whole.
std::vector<ParameterLevel> slice_levels(const Recipe& recipe, size_t slice,
                                         std::optional<size_t> source);

// The value by parameter_levels. Parameters of the whole merge (lambda, normalize, ...) are read
// with model nullopt.
std::optional<double> resolve(const Recipe& recipe, std::string_view parameter,
                              std::optional<size_t> model, std::string_view tensor_name, double t);

// A hash of trim_factors and relaxation, which YAML does not hold; "" when the recipe has neither.
std::string hash_of_factors(const Recipe& recipe);

// The recipe as YAML that mergekit accepts; `stock` leaves the section `lewis:` out.
std::string to_yaml(const Recipe& recipe, bool stock);

}  // namespace lewis
