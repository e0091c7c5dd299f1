// `lewis.calibration:` the texts, or the statistics, that show the skills of the models.
#include <algorithm>

#include "recipe/parse/recipe_reader.h"

namespace lewis {

std::vector<CalibrationEntry> RecipeReader::calibration_list(const YamlNode& list,
                                                             const Recipe& r) const {
  if (list.kind != YamlNode::Kind::kList) fail(list.line, "lewis.calibration must be a list");
  std::vector<CalibrationEntry> entries;
  for (const YamlNode& item : list.items) {
    CalibrationEntry e = calibration_of(item, r);
    if (std::ranges::find(entries, e.index, &CalibrationEntry::index) != entries.end())
      fail(item.line, fmt::format("model {} has two calibration entries", e.model));
    entries.push_back(std::move(e));
  }
  if (!entries.empty() && !r.base_index)
    fail(list.line, "lewis.calibration needs base_model: importance is the distance from it");
  return entries;
}

CalibrationEntry RecipeReader::calibration_of(const YamlNode& node, const Recipe& r) const {
  check_keys(node,
             {"model", "statistics", "data", "config", "split", "format", "prompt_field",
              "answer_field", "samples", "seed", "max_tokens"},
             "lewis.calibration");
  CalibrationEntry e;
  e.line = node.line;
  const RecipeModel model = model_of(need(node, "model"), "lewis.calibration model");
  e.model = model.model;
  const auto same = [&](const RecipeModel& m) { return is_same_model(m, model); };
  const auto it = std::ranges::find_if(r.models, same);
  if (it == r.models.end()) {
    fail(node.line,
         fmt::format("lewis.calibration model {} is none of the recipe's models", e.model));
  }
  e.index = static_cast<size_t>(it - r.models.begin());
  if (r.base_index == e.index) {
    fail(node.line,
         "lewis.calibration is given for the fine-tuned models; the base is run on each text as "
         "well");
  }
  given(node, "statistics") ? read_statistics(node, e) : read_data(node, e);
  return e;
}

// statistics: {base: FILE, model: FILE}
void RecipeReader::read_statistics(const YamlNode& node, CalibrationEntry& e) const {
  for (const auto& [key, _] : node.entries) {
    if (key.scalar == "model" || key.scalar == "statistics") continue;
    fail(key.line,
         fmt::format("'{}' has no meaning beside statistics: nothing is run", key.scalar));
  }
  const YamlNode& map = need(node, "statistics");
  check_keys(map, {"base", "model"}, "statistics");
  const auto file = [&](std::string_view key) {
    const YamlNode& n = need(map, key);
    return file_path(text(n, key), n.line, fmt::format("statistics.{}", key));
  };
  e.base_statistics = file("base");
  e.model_statistics = file("model");
}

void RecipeReader::read_data(const YamlNode& node, CalibrationEntry& e) const {
  const YamlNode* data = given(node, "data");
  if (!data) fail(node.line, "'data' is missing (or statistics)");
  std::string part;
  if (const YamlNode* n = given(node, "config")) part = text(*n, "config") + "/";
  if (const YamlNode* n = given(node, "split")) part += text(*n, "split");
  e.data = data_path(text(*data, "data") + (part.empty() ? "" : "#" + part), data->line);
  if (const YamlNode* n = given(node, "format"))
    e.format = choice<DataFormat>(*n, "lewis.calibration format");
  if (const YamlNode* n = given(node, "prompt_field")) e.prompt_field = text(*n, "prompt_field");
  if (const YamlNode* n = given(node, "answer_field")) e.answer_field = text(*n, "answer_field");
  if (!e.format && !e.answer_field.empty()) e.format = DataFormat::kJsonl;
  if (const YamlNode* n = given(node, "samples")) e.samples = count(*n, "samples");
  if (const YamlNode* n = given(node, "seed")) e.seed = count(*n, "seed");
  if (const YamlNode* n = given(node, "max_tokens")) e.max_tokens = count(*n, "max_tokens");
  if (e.max_tokens == 0) fail(node.line, "max_tokens must be at least 1");
}

}  // namespace lewis
