#include "merge/model_card.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/build.h"
#include "base/dump_json.h"
#include "base/json.h"
#include "base/markdown.h"
#include "base/printable.h"
#include "io/extra_parts.h"
#include "io/layer_kinds.h"
#include "io/model_folder.h"
#include "io/tied_head.h"
#include "merge/model_origin.h"

namespace lewis {
namespace {

constexpr const char* kGeneration = "generation_config.json";

// A YAML text in double quotes.
std::string quoted(const std::string& text) { return printable_json(dump_json(text)); }

// The element type of the merged tensors, if they have one.
std::optional<DType> output_dtype(const MergeInputs& inputs) {
  std::optional<DType> dtype;
  for (const OutputTensor& t : inputs.tensors()) {
    if (!t.merged) continue;
    if (dtype && dtype != t.info.dtype) return std::nullopt;
    dtype = t.info.dtype;
  }
  return dtype;
}

// config.json of a stack of slices: the number of layers, and the kind of each.
std::string stacked_config(const MergeInputs& inputs, const std::string& config) {
  Json json = parse_json(config, "config.json");
  Json& text = text_part(json);
  if (!text.contains("num_hidden_layers")) return config;
  stack_layer_kinds(inputs.layer_origins(), text);
  return json.dump(2) + "\n";
}

// "eos_token_id", "bos_token_id", ...: an id or a list of ids.
void renumber_tokens(const std::map<int64_t, int64_t>& renumbered, Json& config) {
  const auto new_id = [&](const Json& id) -> Json {
    const auto found =
        id.is_number_integer() ? renumbered.find(id.get<int64_t>()) : renumbered.end();
    if (found == renumbered.end()) return id;
    return found->second < 0 ? Json() : Json(found->second);
  };
  for (auto& [key, value] : config.items()) {
    if (!key.ends_with("_token_id")) continue;
    if (!value.is_array()) {
      value = new_id(value);
      continue;
    }
    Json ids = Json::array();
    for (const Json& id : value) {
      if (const Json now = new_id(id); !now.is_null()) ids.push_back(now);
    }
    value = ids;
  }
}

// Adds the tokenizer's EOS where a file names others.
void follow_eos(const std::optional<int64_t>& eos, Json& config) {
  const auto found = config.find("eos_token_id");
  if (!eos || found == config.end()) return;
  if (!found->is_array()) {
    *found = *eos;
  } else if (std::ranges::find(*found, Json(*eos)) == found->end()) {
    found->insert(found->begin(), *eos);
  }
}

// config.json with the vocabulary of the output.
std::string config_of_vocabulary(const TokenizerChange& change, const std::string& config) {
  Json json = parse_json(config, "config.json");
  const auto set = [&](Json& part) {
    if (part.contains("vocab_size") && change.plan) part["vocab_size"] = change.plan->rows();
    renumber_tokens(change.renumbered, part);
    follow_eos(change.eos, part);
  };
  set(json);
  if (json.contains("text_config") && json["text_config"].is_object()) set(json["text_config"]);
  return json.dump(2) + "\n";
}

// Returns whether head and embeddings of the output are two tensors.
bool holds_two(const MergeInputs& inputs) {
  std::vector<TensorInfo> outputs;
  for (const OutputTensor& t : inputs.tensors()) outputs.push_back(t.info);
  const HeadTensors found = find_head(outputs);
  return found.head && found.embedding;
}

// config.json of a model whose head is a tensor of its own.
std::string untied_config(const std::string& config) {
  Json json = parse_json(config, "config.json");
  if (!config_ties_head(json)) return config;
  untie_head(json);
  return json.dump(2) + "\n";
}

// config.json that promises no multi-token prediction.
std::string config_without_mtp(const std::string& config) {
  Json json = parse_json(config, "config.json");
  withdraw_mtp_promises(json);
  return json.dump(2) + "\n";
}

std::string recipe_text(const Recipe& recipe) {
  return recipe.text.empty() ? to_yaml(recipe, false) : recipe.text;
}

// How the card names a model of the recipe: without paths of this machine.
std::string name_on_card(const RecipeModel& model) {
  Recipe alone;
  alone.models.push_back(model);
  std::string name;
  for (const ModelOrigin& origin : model_origins(alone))
    name += (name.empty() ? "" : "+") + origin.id;
  return model.stage ? model.model : name;
}
std::string name_on_card(const Recipe& recipe, const std::string& written) {
  const auto model = std::ranges::find(recipe.models, written, &RecipeModel::model);
  return model == recipe.models.end() ? written : name_on_card(*model);
}

// "Licence: mit. All models have this licence."
std::string licence_words(const Licence& licence) {
  return fmt::format("Licence: {}. {}", licence.name.empty() ? "not derived" : licence.name,
                     licence.why);
}

}  // namespace

std::string model_card(const MergeInputs& inputs, const std::string& name) {
  const Recipe& recipe = inputs.recipe();
  std::string card = "---\nbase_model:\n";
  const auto origins = model_origins(recipe);
  for (const ModelOrigin& origin : origins) card += fmt::format("- {}\n", quoted(origin.id));
  const Licence licence = derived_licence(origins);
  card += "base_model_relation: merge\n";
  if (!licence.name.empty()) {
    card += is_known_licence(licence.name) ? "license: " : "license: other\nlicense_name: ";
    card += quoted(licence.name) + "\n";
  }
  card += "library_name: transformers\ntags:\n- mergekit\n- merge\n- lewis\n---\n";
  card += fmt::format("# {}\n\nA merge of language models, made with lewis {}.\n\n",
                      markdown_text(name), version_and_build());
  card += fmt::format("Merge method: {}{}.\n\nModels:\n\n", recipe.merge_method,
                      recipe.base_model
                          ? fmt::format(", with {} as base",
                                        markdown_text(name_on_card(recipe, *recipe.base_model)))
                          : "");
  for (const std::string& model : inputs.merged_names())
    card += fmt::format("- {}\n", markdown_text(name_on_card(recipe, model)));
  card += "\n" + markdown_text(licence_words(licence)) + "\n";
  std::string text = printable_lines(recipe_text(recipe));
  if (!text.ends_with('\n')) text += '\n';
  std::string fence = "```";
  while (text.find(fence) != std::string::npos) fence += '`';
  return card + fmt::format("\nThe recipe:\n\n{}yaml\n{}{}\n", fence, text, fence);
}

std::string patched_config(const std::string& config, DType dtype) {
  std::string patched = config;
  for (const std::string_view key : {"\"dtype\"", "\"torch_dtype\""}) {
    for (size_t at = patched.find(key); at != std::string::npos; at = patched.find(key, at + 1)) {
      const size_t colon = patched.find_first_not_of(" \t\r\n", at + key.size());
      if (colon == std::string::npos || patched[colon] != ':') continue;
      const size_t begin = patched.find_first_not_of(" \t\r\n", colon + 1);
      if (begin == std::string::npos || patched[begin] != '"') continue;
      const size_t end = patched.find('"', begin + 1);
      if (end == std::string::npos ||
          !dtype_from_torch_name(patched.substr(begin + 1, end - begin - 1)))
        continue;
      patched.replace(begin + 1, end - begin - 1, dtype_torch_name(dtype));
    }
  }
  return patched;
}

std::string config_of(const MergeInputs& inputs) {
  std::string config = inputs.main().config_text;
  if (config.empty()) return config;
  if (!inputs.recipe().slices.empty()) config = stacked_config(inputs, config);
  for (const auto& module : inputs.modules()) {
    if (!module->recipe().slices.empty()) config = stacked_config(*module, config);
  }
  const TokenizerChange& change = inputs.tokenizer();
  if (change.plan || !change.renumbered.empty() || change.eos)
    config = config_of_vocabulary(change, config);
  if (holds_two(inputs)) config = untied_config(config);
  if (!inputs.mtp_notes().empty()) config = config_without_mtp(config);
  const auto dtype = output_dtype(inputs);
  return dtype ? patched_config(config, *dtype) : config;
}

ChangedFiles changed_files_of(const MergeInputs& inputs) {
  ChangedFiles changed = inputs.main().changed_files;
  const TokenizerChange& change = inputs.tokenizer();
  for (const auto& [name, content] : change.files) changed[name] = content;
  const auto generation = inputs.main().files().read(kGeneration);
  if (generation && (!change.renumbered.empty() || change.eos)) {
    Json json = parse_json(*generation, inputs.main().files().path_of(kGeneration));
    renumber_tokens(change.renumbered, json);
    follow_eos(change.eos, json);
    changed[kGeneration] = json.dump(2) + "\n";
  }
  return changed;
}

std::vector<std::string> check_companions(const MergeInputs& inputs, bool tokenizer) {
  const ModelFiles files(inputs.main().folder, changed_files_of(inputs));
  config_of(inputs);
  files.read(kGeneration);
  const Companions companions = companions_of(files, tokenizer);
  for (const std::string& file : companions.copied) files.read(file);
  return companions.notes;
}

std::vector<std::string> add_companions(const MergeInputs& inputs, const std::string& name,
                                        bool tokenizer, TensorWriter& writer) {
  const ModelFiles files(inputs.main().folder, changed_files_of(inputs));
  const auto copy = [&](const std::string& name_of_file) {
    if (const auto content = files.read(name_of_file)) writer.add_file(name_of_file, *content);
  };
  if (const std::string config = config_of(inputs); !config.empty())
    writer.add_file("config.json", config);
  copy(kGeneration);
  const Companions companions = companions_of(files, tokenizer);
  for (const std::string& file : companions.copied) copy(file);
  writer.add_file("README.md", model_card(inputs, name));
  writer.add_file("mergekit_config.yml", recipe_text(inputs.recipe()));
  return companions.notes;
}

}  // namespace lewis
