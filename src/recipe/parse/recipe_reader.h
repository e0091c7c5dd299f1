// Inside recipe/: reads one document of a recipe, section by section; one file each.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "recipe/averages.h"
#include "recipe/parameters.h"
#include "recipe/parse/recipe_keys.h"
#include "recipe/recipe.h"

namespace lewis {

// The recipe of another document that has this name, null when there is none; `line` is where the
// name is used.
using FindStage = std::function<std::shared_ptr<const Recipe>(const std::string& name, int line)>;

class RecipeReader : private RecipeKeys {
 public:
  // `in_memory`: see parse_recipe. `ignored`: see RecipeKeys.
  RecipeReader(const std::filesystem::path& file, FindStage find_stage,
               std::vector<std::string> in_memory, Notes ignored = nullptr)
      : RecipeKeys(where_of(file), std::move(ignored)),
        file_(file),
        find_stage_(std::move(find_stage)),
        in_memory_(std::move(in_memory)) {}

  // How messages name a recipe's file.
  static std::string where_of(const std::filesystem::path& file) {
    return file.empty() ? "recipe" : file.string();
  }

  // document.cc
  Recipe recipe(const YamlNode& root) const;

 private:
  using Path = std::filesystem::path;

  // document.cc
  void read_inputs(const YamlNode& root, Recipe& r) const;
  DType dtype_of(const YamlNode& node, std::string_view what) const;

  // missing.cc
  std::vector<MissingRule> missing_of(const YamlNode& node) const;

  // parameters.cc
  double parameter_number(const YamlNode& node, const ParameterRow& row) const;
  double parameter_value(const YamlNode& node, const ParameterRow& row) const;
  SettingValue setting_value(const YamlNode& node, const ParameterRow& row) const;
  Condition condition_of(const YamlNode& node, const ParameterRow& row) const;
  ParameterSetting setting_of(const YamlNode& node, const ParameterRow& row) const;
  Parameters parameters_of(const YamlNode& map, ParameterScope scope) const;
  // The key `parameters` of a map; none when it is not there.
  Parameters parameters_in(const YamlNode& map, ParameterScope scope) const;

  // paths.cc
  std::optional<Path> find_path(const std::string& written, bool (*fits)(const Path& path)) const;
  std::optional<Path> find_folder(const std::string& written) const;
  std::optional<Path> find_model(const std::string& written) const;  // a folder or a GGUF file
  Path file_path(const std::string& written, int line, std::string_view what) const;
  // A file, a folder or the id of a data set, with "#CONFIG/SPLIT" behind it if a part is meant.
  std::filesystem::path data_path(const std::string& written, int line) const;
  Path folder_path(const std::string& written, int line, std::string_view what) const;
  Path model_path(const std::string& written, int line, std::string_view what) const;

  // models.cc
  std::string path_text(const YamlNode& node, std::string_view what) const;
  RecipeModel model_of(const YamlNode& node, std::string_view what) const;
  size_t add_model(const YamlNode& node, std::string_view what, Recipe& r) const;
  void read_models(const YamlNode& list, Recipe& r) const;
  void add_base(const YamlNode& root, Recipe& r) const;

  // model_glob.cc
  // The keys first, last and every.
  Window window_of(const YamlNode& map) const;
  void read_glob(const YamlNode& map, Recipe& r) const;

  // outputs.cc
  void read_average(const YamlNode& node, const Recipe& r, RecipeOutput& out) const;
  void read_weights(const YamlNode& node, const Recipe& r, RecipeOutput& out) const;
  RecipeOutput output_of(const YamlNode& node, const Recipe& r) const;
  std::vector<RecipeOutput> outputs_of_table(const YamlNode& node, const Recipe& r) const;
  void check_outputs(const YamlNode& node, const Recipe& r) const;
  void read_outputs(const YamlNode& root, Recipe& r) const;

  // slices.cc
  void read_slices(const YamlNode& list, Recipe& r) const;
  OutputSlice slice_of(const YamlNode& node, Recipe& r) const;
  void add_source(const YamlNode& node, OutputSlice& slice, Recipe& r) const;

  // modules.cc
  void read_modules(const YamlNode& map, const YamlNode& root, Recipe& r) const;
  void read_module(const YamlNode& module, Recipe& r) const;

  // lewis_section.cc
  LewisSection lewis_of(const YamlNode& node, const Recipe& r) const;
  void read_densities(const YamlNode& node, LewisSection& s) const;
  void read_extras(const YamlNode& node, LewisSection& s) const;
  void read_skipped(const YamlNode& node, LewisSection& s) const;
  CoefficientSettings coefficient_of(const YamlNode& node) const;

  // calibration.cc
  std::vector<CalibrationEntry> calibration_list(const YamlNode& list, const Recipe& r) const;
  CalibrationEntry calibration_of(const YamlNode& node, const Recipe& r) const;
  void read_statistics(const YamlNode& node, CalibrationEntry& e) const;
  void read_data(const YamlNode& node, CalibrationEntry& e) const;

  // refine_section.cc
  RefineSettings refine_of(const YamlNode& node, const LewisSection& lewis, const Recipe& r) const;
  void read_chosen(const YamlNode& node, RefineSettings& s) const;
  void check_refine(const YamlNode& node, const LewisSection& lewis, const Recipe& r) const;

  Path file_;
  FindStage find_stage_;
  std::vector<std::string> in_memory_;
};

// The place of the model in r.models, where it is put if it is not there yet.
size_t add_model(RecipeModel model, Recipe& r);
// Says of all models but the base (without one: the first) that their experts are shown in its
// order, unless the recipe keeps them or the merge only copies.
void name_expert_order(Recipe& r);

}  // namespace lewis
