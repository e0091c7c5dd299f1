#include "merge/model_card.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/build.h"
#include "base/config_json.h"
#include "base/dump_json.h"
#include "base/json.h"
#include "base/markdown.h"
#include "base/printable.h"
#include "io/extra_parts.h"
#include "io/layer_kinds.h"
#include "io/model_folder.h"
#include "io/tied_head.h"
#include "merge/model_origin.h"
#include "merge/published_files.h"

namespace lewis {
namespace {

constexpr const char* kGeneration = "generation_config.json";

// A YAML text in double quotes.
std::string quoted(const std::string& text) { return printable_json(dump_json(text)); }

// The element type of the merged tensors, if they have one.
std::optional<DType> output_dtype(const MergeInputs& inputs) {
  std::optional<DType> dtype;
  for (const OutputTensor& t : inputs.tensors()) {
    if (!t.merged || inputs.fp8().contains(t.info.name)) continue;
    if (dtype && dtype != t.info.dtype) return std::nullopt;
    dtype = t.info.dtype;
  }
  return dtype;
}

// config.json of a stack of slices: the number of layers, and the kind of each.
std::string stacked_config(const MergeInputs& inputs, const std::string& config) {
  Json json = parse_config(config, "config.json");
  Json& text = text_part(json);
  if (!text.contains("num_hidden_layers")) return config;
  stack_layer_kinds(inputs.layer_origins(), text);
  return config_text(json);
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
  Json json = parse_config(config, "config.json");
  const auto set = [&](Json& part) {
    if (part.contains("vocab_size") && change.plan) part["vocab_size"] = change.plan->rows();
    renumber_tokens(change.renumbered, part);
    follow_eos(change.eos, part);
  };
  set(json);
  if (json.contains("text_config") && json["text_config"].is_object()) set(json["text_config"]);
  return config_text(json);
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
  Json json = parse_config(config, "config.json");
  if (!config_ties_head(json)) return config;
  untie_head(json);
  return config_text(json);
}

// config.json that promises no multi-token prediction.
std::string config_without_mtp(const std::string& config) {
  Json json = parse_config(config, "config.json");
  withdraw_mtp_promises(json);
  return config_text(json);
}

// "Licence: mit. All models have this licence."
std::string licence_words(const Licence& licence) {
  return fmt::format("Licence: {}. {}", licence.name.empty() ? "not derived" : licence.name,
                     licence.why);
}

std::string front_matter(const std::vector<ModelOrigin>& origins, const Licence& licence) {
  std::string text = "---\nbase_model:\n";
  for (const ModelOrigin& origin : origins) text += fmt::format("- {}\n", quoted(origin.id));
  text += "base_model_relation: merge\n";
  if (!licence.name.empty()) {
    text += is_known_licence(licence.name) ? "license: " : "license: other\nlicense_name: ";
    text += quoted(licence.name) + "\n";
  }
  return text + "library_name: transformers\ntags:\n- mergekit\n- merge\n- lewis\n---\n";
}

// "- owner/name, commit abc": models as the card lists them.
std::string models_list(const MergeInputs& inputs, const PublicNames& names) {
  std::string text;
  for (const std::string& model : inputs.merged_names()) {
    const std::string name = names.of(model);
    const auto& origins = names.origins();
    const auto origin =
        std::ranges::find(origins, name.substr(0, name.find('@')), &ModelOrigin::id);
    const bool known =
        origin != origins.end() && !origin->commit.empty() && !name.ends_with("@" + origin->commit);
    text += fmt::format("- {}{}\n", markdown_text(name),
                        known ? fmt::format(" (commit {})", markdown_text(origin->commit)) : "");
  }
  return text;
}

// The texts that the densities come from.
std::string measured_words(const Recipe& recipe, const PublicNames& names) {
  std::string text;
  if (!recipe.lewis) return text;
  for (const CalibrationEntry& e : recipe.lewis->calibration) {
    const std::string model = markdown_text(names.of(e.model));
    if (e.has_statistics()) {
      text += fmt::format("- {}: statistics that were there already\n", model);
      continue;
    }
    const std::string data = markdown_text(names.of_data(e.data.string()));
    text += fmt::format("- {}: {} of {}\n", model,
                        e.samples ? fmt::format("{} samples", e.samples) : "all samples", data);
  }
  return text.empty()
             ? text
             : "\nLEWIS measured on calibration text how much of each layer to keep:\n\n" + text;
}

// The command that merges the same model once more.
std::string redo_words(const CardFacts& facts) {
  constexpr uint64_t kUsualShard = 5'000'000'000;
  std::string options;
  if (facts.seed != 0) options += fmt::format(" --seed {}", facts.seed);
  if (facts.shard_bytes != 0 && facts.shard_bytes != kUsualShard)
    options += fmt::format(" --out-shard-size {}", facts.shard_bytes);
  if (!facts.tokenizer) options += " --no-copy-tokenizer";
  std::string text = fmt::format(
      "\n## How to merge it again\n\nSave the recipe below as `recipe.yml`. lewis {} gives the "
      "same "
      "bytes on any machine:\n\n```sh\nlewis merge recipe.yml merged{}\n```\n",
      version_and_build(), options);
  const bool local =
      std::ranges::any_of(facts.names.origins(), [](const ModelOrigin& o) { return !o.of_hub; });
  if (local) {
    text +=
        "\nModels and data without an owner in their names were folders and files where the merge "
        "was made; lewis looks for them in the working directory.\n";
  }
  return text;
}

// A copied file without folders of this machine, and a note about what was there.
std::string published(const std::string& file, const std::string& content, const std::string& model,
                      std::vector<std::string>& notes) {
  if (!file.ends_with(".json") || file == "tokenizer.json") return content;
  std::vector<std::string> changed;
  std::string text = without_folders_in_json(content, model, changed);
  for (const std::string& key : changed) {
    notes.push_back(
        fmt::format("{}: {} names a folder of the machine where the model was made; the merge has "
                    "only its name",
                    file, key));
  }
  return text;
}

}  // namespace

std::string model_card(const MergeInputs& inputs, const CardFacts& facts) {
  const Recipe& recipe = inputs.recipe();
  const PublicNames& names = facts.names;
  const Licence licence = derived_licence(names.origins());
  std::string card = front_matter(names.origins(), licence);
  card += fmt::format("# {}\n\nA merge of language models, made with lewis {}.\n\n",
                      markdown_text(facts.name), version_and_build());
  card += fmt::format("Merge method: {}{}.\n\nModels:\n\n", recipe.merge_method,
                      recipe.base_model ? fmt::format(", with {} as base",
                                                      markdown_text(names.of(*recipe.base_model)))
                                        : "");
  card += models_list(inputs, names);
  card += "\n" + markdown_text(licence_words(licence)) + "\n";
  card += measured_words(recipe, names) + redo_words(facts);
  std::string text = printable_lines(names.recipe_text());
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
  if (!inputs.fp8().empty()) config = inputs.main().quantized->config_text;
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
  if (changed.contains("config.json")) changed["config.json"] = config_of(inputs);
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
  std::vector<std::string> notes;
  const auto check = [&](const std::string& name, const std::string& content) {
    published(name, content, "", notes);
  };
  check("config.json", config_of(inputs));
  if (const auto generation = files.read(kGeneration)) check(kGeneration, *generation);
  const Companions companions = companions_of(files, tokenizer);
  for (const std::string& file : companions.copied) {
    if (const auto content = files.read(file)) check(file, *content);
  }
  notes.insert(notes.begin(), companions.notes.begin(), companions.notes.end());
  return notes;
}

std::vector<std::string> add_companions(const MergeInputs& inputs, const CardFacts& facts,
                                        TensorWriter& writer) {
  const ModelFiles files(inputs.main().folder, changed_files_of(inputs));
  const std::string model = facts.names.of(inputs.main().name);
  std::vector<std::string> notes;
  const auto add = [&](const std::string& file, const std::string& content) {
    writer.add_file(file, published(file, content, model, notes));
  };
  const auto copy = [&](const std::string& file) {
    if (const auto content = files.read(file)) add(file, *content);
  };
  if (const std::string config = config_of(inputs); !config.empty()) add("config.json", config);
  copy(kGeneration);
  const Companions companions = companions_of(files, facts.tokenizer);
  for (const std::string& file : companions.copied) copy(file);
  writer.add_file("README.md", model_card(inputs, facts));
  writer.add_file("mergekit_config.yml", facts.names.recipe_text());
  notes.insert(notes.begin(), companions.notes.begin(), companions.notes.end());
  return notes;
}

}  // namespace lewis
