#include "merge/sources/adapter_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/model_files.h"

namespace lewis {
namespace {

// Keys that say how or for what the adapter was trained, not what it is.
constexpr auto kAboutTraining = std::to_array<std::string_view>({"auto_mapping",
                                                                 "base_model_name_or_path",
                                                                 "corda_config",
                                                                 "ensure_weight_tying",
                                                                 "eva_config",
                                                                 "exclude_modules",
                                                                 "inference_mode",
                                                                 "layers_pattern",
                                                                 "layers_to_transform",
                                                                 "loftq_config",
                                                                 "lora_dropout",
                                                                 "lora_ga_config",
                                                                 "megatron_config",
                                                                 "megatron_core",
                                                                 "merge_weights",
                                                                 "modules_to_save",
                                                                 "peft_version",
                                                                 "qalora_group_size",
                                                                 "revision",
                                                                 "runtime_config",
                                                                 "target_modules",
                                                                 "task_type",
                                                                 "velora_config",
                                                                 "bias"});
constexpr auto kRead = std::to_array<std::string_view>(
    {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora",
     "lora_bias", "fan_in_fan_out", "init_lora_weights", "target_parameters",
     "trainable_token_indices"});

constexpr size_t kMostExpressions = 1000;  // names without operators are not counted

// Initialisations that change the base model too: the adapter is a difference to that other base,
// and PEFT repeats the change when it loads the adapter.
constexpr auto kChangeBase =
    std::to_array<std::string_view>({"pissa", "corda", "olora", "loftq", "lora_ga"});

bool is_set(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value != 0;
  if (value.is_string()) return !value.get<std::string>().empty();
  return !value.empty();
}

bool flag(const Json& json, const std::string& file, std::string_view key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return false;
  if (!found->is_boolean())
    throw input_error("{}: {} is {}, expected true or false", file, key, found->dump());
  return found->get<bool>();
}

int64_t positive_integer(const Json& value, const std::string& file, std::string_view key) {
  if (value.is_number_unsigned() && value > 0 && value <= INT32_MAX) return value.get<int64_t>();
  throw input_error("{}: {} is {}, expected a positive integer", file, key, value.dump());
}

double finite_number(const Json& value, const std::string& file, std::string_view key) {
  if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
  throw input_error("{}: {} is {}, expected a number", file, key, value.dump());
}

template <typename ValueOf>
std::vector<AdapterConfig::Pattern> read_patterns(const Json& json, const std::string& file,
                                                  const std::string& key, ValueOf value_of) {
  std::vector<AdapterConfig::Pattern> patterns;
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return patterns;
  if (!found->is_object()) throw input_error("{}: {} is not an object", file, key);
  size_t expressions = 0;
  for (const auto& [name, value] : found->items()) {
    const double number =
        static_cast<double>(value_of(value, file, fmt::format("{}.{}", key, name)));
    patterns.push_back({ModulePattern(name, fmt::format("{}: {}", file, key)), number});
    if (!patterns.back().name.is_expression() || ++expressions <= kMostExpressions) continue;
    throw input_error("{}: {} has more than {} regular expressions", file, key, kMostExpressions);
  }
  return patterns;
}

double value_for(const std::string& module, const std::vector<AdapterConfig::Pattern>& patterns,
                 double otherwise) {
  for (const auto& pattern : patterns) {
    if (pattern.name.matches(module)) return pattern.value;
  }
  return otherwise;
}

void check_initialisation(const Json& json, const std::string& file) {
  const auto found = json.find("init_lora_weights");
  if (found == json.end() || !found->is_string()) return;
  std::string name = found->get<std::string>();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const std::string_view changing : kChangeBase) {
    if (!name.starts_with(changing)) continue;
    throw input_error(
        "{}: init_lora_weights is \"{}\": such an adapter belongs to a base model that was changed "
        "with it; save it with PEFT's path_initial_model_for_weight_conversion",
        file, found->get<std::string>());
  }
  for (const char* known : {"gaussian", "eva", "orthogonal", "mica"}) {
    if (name == known) return;
  }
  throw input_error("{}: init_lora_weights is \"{}\", which is not known", file,
                    found->get<std::string>());
}

void check_keys(const Json& json, const std::string& file) {
  const auto peft_type = json.find("peft_type");
  if (peft_type == json.end() || *peft_type != "LORA") {
    throw input_error("{}: peft_type is {}, expected \"LORA\"", file,
                      peft_type == json.end() ? "missing" : peft_type->dump());
  }
  for (const auto& [key, value] : json.items()) {
    const auto is_key = [&](std::string_view known) { return known == key; };
    if (!is_set(value) || std::any_of(kAboutTraining.begin(), kAboutTraining.end(), is_key) ||
        std::any_of(kRead.begin(), kRead.end(), is_key)) {
      continue;
    }
    throw input_error("{}: {} is {}: this variant of LoRA is not supported", file, key,
                      value.dump());
  }
  for (const char* key : {"r", "lora_alpha"}) {
    if (!json.contains(key)) throw input_error("{}: {} is missing", file, key);
  }
}

std::vector<std::string> read_target_parameters(const Json& json, const std::string& file) {
  const auto found = json.find("target_parameters");
  if (found == json.end() || found->is_null()) return {};
  const bool texts =
      found->is_array() && std::ranges::all_of(*found, [](const Json& j) { return j.is_string(); });
  if (!texts || found->size() > kMostExpressions)
    throw input_error("{}: target_parameters is {}, expected a list of at most {} names", file,
                      found->is_array() ? "another list" : found->dump(), kMostExpressions);
  return found->get<std::vector<std::string>>();
}

// Only a plain list is of use: each name must have keys.
std::vector<std::string> read_target_modules(const Json& json) {
  const auto found = json.find("target_modules");
  const bool texts = found != json.end() && found->is_array() && found->size() <= 1000 &&
                     std::ranges::all_of(*found, [](const Json& j) { return j.is_string(); });
  for (const char* key : {"exclude_modules", "layers_to_transform"}) {
    if (json.contains(key) && is_set(json[key])) return {};
  }
  return texts ? found->get<std::vector<std::string>>() : std::vector<std::string>();
}

std::vector<int64_t> read_rows(const Json& list, const std::string& file) {
  const bool good = list.is_array() && std::ranges::all_of(list, [](const Json& j) {
                      return j.is_number_unsigned() && j <= INT32_MAX;
                    });
  if (!good)
    throw input_error(
        "{}: trainable_token_indices is {}, expected a list of token ids or one by module", file,
        list.is_array() ? "another list" : list.dump());
  const auto rows = list.get<std::vector<int64_t>>();
  if (std::set<int64_t>(rows.begin(), rows.end()).size() != rows.size())
    throw input_error("{}: trainable_token_indices names a token twice", file);
  return rows;
}

std::map<std::string, std::vector<int64_t>> read_tokens(const Json& json, const std::string& file) {
  const auto found = json.find("trainable_token_indices");
  if (found == json.end() || found->is_null()) return {};
  if (!found->is_object()) return {{"", read_rows(*found, file)}};
  std::map<std::string, std::vector<int64_t>> tokens;
  for (const auto& [module, rows] : found->items()) tokens[module] = read_rows(rows, file);
  return tokens;
}

// mlx-lm writes the arguments of its training as they are; of them lora_parameters and
// fine_tune_type say what the adapter is.
AdapterConfig read_mlx_config(const Json& json, AdapterConfig config) {
  const std::string file = config.file.string();
  const auto type = json.find("fine_tune_type");
  if (type != json.end() && *type != "lora" && *type != "dora")
    throw input_error("{}: fine_tune_type is {}, expected \"lora\" or \"dora\"", file,
                      type->dump());
  const auto found = json.find("lora_parameters");
  if (found == json.end() || !found->is_object())
    throw input_error("{}: lora_parameters is {}, expected an object with rank and scale", file,
                      found == json.end() ? "missing" : found->dump());
  for (const char* key : {"rank", "scale"}) {
    if (!found->contains(key)) throw input_error("{}: lora_parameters.{} is missing", file, key);
  }
  config.mlx = true;
  config.dora = type != json.end() && *type == "dora";
  config.rank = positive_integer((*found)["rank"], file, "lora_parameters.rank");
  config.alpha = finite_number((*found)["scale"], file, "lora_parameters.scale") *
                 static_cast<double>(config.rank);
  return config;
}

}  // namespace

const std::vector<int64_t>* AdapterConfig::tokens_of(std::string_view module) const {
  for (const auto& [name, rows] : tokens) {
    const bool ends = module.ends_with(name) && (module.size() == name.size() || name.empty() ||
                                                 module[module.size() - name.size() - 1] == '.');
    if (ends) return &rows;
  }
  return nullptr;
}

int64_t AdapterConfig::rank_of(const std::string& module) const {
  return static_cast<int64_t>(value_for(module, ranks, static_cast<double>(rank)));
}

double AdapterConfig::scale_of(const std::string& module) const {
  const auto r = static_cast<double>(rank_of(module));
  return value_for(module, alphas, alpha) / (rank_stabilized ? std::sqrt(r) : r);
}

AdapterConfig read_adapter_config(const std::filesystem::path& folder) {
  AdapterConfig config;
  config.file = folder / "adapter_config.json";
  const std::string file = config.file.string();
  const Json json = parse_json(read_model_file(folder, "adapter_config.json"), file);
  if (!json.is_object()) throw input_error("{}: not a JSON object", file);
  if (!json.contains("peft_type") &&
      (json.contains("fine_tune_type") || json.contains("lora_parameters")))
    return read_mlx_config(json, std::move(config));
  check_keys(json, file);
  check_initialisation(json, file);
  config.rank = positive_integer(json["r"], file, "r");
  config.alpha = finite_number(json["lora_alpha"], file, "lora_alpha");
  config.ranks = read_patterns(json, file, "rank_pattern", positive_integer);
  config.alphas = read_patterns(json, file, "alpha_pattern", finite_number);
  config.rank_stabilized = flag(json, file, "use_rslora");
  config.dora = flag(json, file, "use_dora");
  config.fan_in_fan_out = flag(json, file, "fan_in_fan_out");
  config.bias = flag(json, file, "lora_bias");
  config.keeps_ties = flag(json, file, "ensure_weight_tying");
  config.target_modules = read_target_modules(json);
  config.target_parameters = read_target_parameters(json, file);
  config.tokens = read_tokens(json, file);
  const auto version = json.find("peft_version");
  if (version != json.end() && version->is_string())
    config.peft_version = version->get<std::string>();
  return config;
}

}  // namespace lewis
