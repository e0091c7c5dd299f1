#include "app/first_recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "base/data_format.h"
#include "base/enum_names.h"
#include "base/error.h"
#include "merge/method.h"
#include "recipe/print.h"

namespace lewis {
namespace {

constexpr size_t kWidth = 88;

// Comment lines with all of the text.
std::string comment(std::string_view text, std::string_view indent = "") {
  std::string all, line;
  std::istringstream words{std::string(text)};
  const auto end_line = [&] { all += std::string(indent) + "# " + std::exchange(line, "") + "\n"; };
  for (std::string word; words >> word;) {
    if (!line.empty() && indent.size() + line.size() + 3 + word.size() > kWidth) end_line();
    line += (line.empty() ? "" : " ") + word;
  }
  if (!line.empty()) end_line();
  return all;
}

// "weight: 1.0" with what it means behind it.
std::string setting(std::string_view name, std::string_view value, std::string_view indent) {
  return fmt::format("{}{:<18} # {}\n", indent, fmt::format("{}: {}", name, value),
                     find_parameter(name)->meaning);
}

bool takes_base_apart(const MergeMethod& method) {
  return method.base == BaseRole::kApart || method.base == BaseRole::kOptional;
}

void check_models(const FirstRecipe& r, const MergeMethod& method) {
  if (method.base == BaseRole::kApart && r.base.empty()) {
    throw usage_error("{} needs the model that the others were fine-tuned from: give --base MODEL",
                      method.name);
  }
  const size_t count =
      r.models.size() + (method.base == BaseRole::kModel && !r.base.empty() ? 1 : 0);
  if (count < method.min_models || count > method.max_models) {
    throw usage_error(
        "{} takes {} {}, found {}: {}", method.name,
        method.max_models == method.min_models ? std::to_string(method.min_models)
        : count < method.min_models            ? fmt::format("{} or more", method.min_models)
                                               : fmt::format("{} at most", method.max_models),
        method.max_models == 1 ? "model" : "models", count,
        count == 0 ? "give --models MODEL,MODEL" : fmt::format("{}", fmt::join(r.models, ", ")));
  }
  std::set<std::string> seen = {r.base};
  for (const std::string& model : r.models) {
    if (model.empty()) throw usage_error("the name of a model is empty");
    if (!seen.insert(model).second) throw usage_error("the model {} is named twice", model);
  }
}

void check_texts(const FirstRecipe& r) {
  if (!r.data.empty() && r.data.size() != r.models.size()) {
    throw usage_error("{} texts for {} models: give one text per model, in the models' order",
                      r.data.size(), r.models.size());
  }
  if (!r.formats.empty() && r.formats.size() != 1 && r.formats.size() != r.data.size()) {
    throw usage_error("{} formats for {} texts: give one, or one per text", r.formats.size(),
                      r.data.size());
  }
  for (const std::string& format : r.formats) value_of<DataFormat>(format, "--format");
}

std::string head(const MergeMethod& method, const std::filesystem::path& file) {
  const std::string name = file.string();
  std::string text = comment("A recipe for lewis; mergekit reads it, too. What to do with it:");
  for (const auto& [command, what] : std::initializer_list<std::pair<std::string, const char*>>{
           {fmt::format("lewis check {}", name), "can these models be merged?"},
           {fmt::format("lewis merge {} merged --dry-run", name), "time, memory and disk"},
           {fmt::format("lewis merge {} merged --report", name), "the merge, and a page about it"}})
    text += fmt::format("#   {:<46} {}\n", command, what);
  text += "\n" + comment(method.about);
  if (!method.paper.empty()) text += comment(fmt::format("Source: {}.", method.paper));
  return text + fmt::format("merge_method: {}\n", method.name);
}

std::string base_text(const FirstRecipe& r, const MergeMethod& method) {
  if (r.base.empty() || method.base == BaseRole::kModel) return "";
  const std::string_view about =
      takes_base_apart(method)
          ? "The model that the others were fine-tuned from: what they changed is what is merged."
          : "Gives the tokenizer and the settings; it is merged only if it has a weight below.";
  return "\n" + comment(about) + "base_model: " + yaml_scalar(r.base) + "\n";
}

// A value to begin with where the method has none, or where its own keeps everything.
std::string_view first_value(const MergeMethod& method, std::string_view parameter) {
  if (parameter == "density") return "0.5";
  if (parameter == "weight") return method.name == "nuslerp" ? "0.5" : "1.0";
  if (parameter == "t") return method.name == "nearswap" ? "0.001" : "0.5";
  return "";
}

std::string models_text(const FirstRecipe& r, const MergeMethod& method) {
  std::string text = "\n" +
                     comment(
                         "A model is a folder, an id of the Hugging Face hub (owner/name, "
                         "owner/name@revision), or either with a LoRA adapter (MODEL+ADAPTER).") +
                     "models:\n";
  std::vector<std::string> models = r.models;
  if (method.base == BaseRole::kModel && !r.base.empty()) models.insert(models.begin(), r.base);
  for (const std::string& model : models) {
    text += "  - model: " + yaml_scalar(model) + "\n";
    if (method.reads("weight"))
      text += "    parameters:\n" + setting("weight", first_value(method, "weight"), "      ");
  }
  return text;
}

std::string parameters_text(const MergeMethod& method) {
  std::string text, more;
  const auto add = [&](const MethodParameter& p) {
    const std::string_view name = p.id.name(), value = first_value(method, name);
    if (name == "weight" || name == "int8_mask") return;
    if (!value.empty()) {
      text += setting(name, value, "  ");
    } else if (p.otherwise && p.id.row().kind == ParameterKind::kFlag) {
      more += setting(name, *p.otherwise != 0 ? "true" : "false", "#   ");
    } else if (p.otherwise) {
      more += setting(name, fmt::format("{}", *p.otherwise), "#   ");
    }
  };
  for (const MethodParameter& p : method.model_parameters) add(p);
  for (const MethodParameter& p : method.whole_parameters) add(p);
  if (text.empty() && more.empty()) return "";
  std::string all = "\n";
  if (method.reads("density"))
    all += comment(
        "Where no text is given below, every layer keeps this share of what each model changed.");
  if (!more.empty()) all += comment("Lines that begin with # show defaults.");
  return all + (text.empty() ? "# " : "") + "parameters:\n" + text + more;
}

std::string calibration_text(const FirstRecipe& r, std::string_view begin) {
  std::string text;
  for (size_t i = 0; i < r.models.size(); ++i) {
    const std::string data =
        r.data.empty() ? fmt::format("text_{}.jsonl", i + 1) : yaml_scalar(r.data[i]);
    const std::string format = r.formats.empty()       ? ""
                               : r.formats.size() == 1 ? ", format: " + r.formats[0]
                                                       : ", format: " + r.formats[i];
    text += fmt::format("{}    - {{model: {}, data: {}{}}}\n", begin, yaml_scalar(r.models[i]),
                        data, format);
  }
  return text;
}

// Refinement is what helps a merge most (docs/study.md), and it needs a base and texts.
std::string guidance_text(const FirstRecipe& r, const MergeMethod& method) {
  if (method.base != BaseRole::kApart || method.max_models == 1) return "";
  const std::string how = fmt::format(
      "{}Then refine: solves the merged layers so that they return what each "
      "model's layers return on its text.",
      method.reads("density") ? "lewis measures on these texts how much of each layer to keep. "
                              : "");
  if (r.data.empty()) {
    return "\n" +
           comment(
               "The best merges come with a text per model that shows what it can do: a few "
               "dozen questions with answers, or conversations (.jsonl, .parquet, .csv, or the "
               "id of a data set). " +
               how + " To have that, name your texts and remove the # of these lines:") +
           "# lewis:\n#   calibration:\n" + calibration_text(r, "# ") + "#   refine: {}\n";
  }
  return "\n" + comment("For each model a text that shows what it can do. " + how) +
         "lewis:\n  calibration:\n" + calibration_text(r, "") + "  refine: {}\n";
}

}  // namespace

bool needs_base(std::string_view method) {
  return find_merge_method(method).base == BaseRole::kApart;
}

std::string first_recipe(const FirstRecipe& recipe, const std::filesystem::path& file) {
  const MergeMethod& method = find_merge_method(recipe.method);
  check_models(recipe, method);
  check_texts(recipe);
  return head(method, file) + base_text(recipe, method) + models_text(recipe, method) +
         parameters_text(method) + "\n" +
         comment("The type of the merged weights. bfloat16 is what most models come in.") +
         "dtype: bfloat16\n" + guidance_text(recipe, method);
}

}  // namespace lewis
