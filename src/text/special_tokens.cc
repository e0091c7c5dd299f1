// Reads the special tokens of a model from the JSON files of its folder.
#include <limits>

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"

namespace lewis {
namespace {

struct ConfigFile {
  std::string name;  // for messages
  Json json;         // an object; empty when there is no such file
};

ConfigFile read_config(const ModelFiles& files, const std::string& name) {
  return {files.path_of(name), read_json_object(files, name).value_or(Json::object())};
}

// A token is "text", {"content": "text", ...} or null.
std::string token_text(const ConfigFile& config, const char* key) {
  const auto found = config.json.find(key);
  if (found == config.json.end() || found->is_null()) return {};
  const Json* text = &*found;
  if (text->is_object() && text->contains("content")) text = &(*text)["content"];
  if (!text->is_string()) {
    throw input_error("{}: '{}' must be a string, an object with 'content' or null, found {}",
                      config.name, key, found->type_name());
  }
  return text->get<std::string>();
}

int32_t token_id(const ConfigFile& config, const Json& value) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
      value.get<int64_t>() > std::numeric_limits<int32_t>::max()) {
    throw input_error("{}: 'eos_token_id' must be a token id or a list of them, found {}",
                      config.name, value.dump());
  }
  return value.get<int32_t>();
}

// eos_token_id: an id, a list of ids or null.
void add_eos_ids(const ConfigFile& config, std::vector<int32_t>& ids) {
  const auto found = config.json.find("eos_token_id");
  if (found == config.json.end() || found->is_null()) return;
  if (!found->is_array()) {
    ids.push_back(token_id(config, *found));
    return;
  }
  for (const Json& id : *found) ids.push_back(token_id(config, id));
}

bool pads_left(const ConfigFile& config) {
  const auto side = config.json.find("padding_side");
  if (side == config.json.end() || *side == "right") return false;
  if (*side == "left") return true;
  throw input_error("{}: 'padding_side' must be \"left\" or \"right\", found {}", config.name,
                    side->dump());
}

}  // namespace

SpecialTokens read_special_tokens(const ModelFiles& files) {
  const ConfigFile config = read_config(files, "tokenizer_config.json");
  const ConfigFile map = read_config(files, "special_tokens_map.json");
  const auto token = [&](const char* key) {
    const std::string text = token_text(config, key);
    return text.empty() && !config.json.contains(key) ? token_text(map, key) : text;
  };
  SpecialTokens special;
  special.bos = token("bos_token");
  special.eos = token("eos_token");
  special.pad = token("pad_token");
  special.unk = token("unk_token");
  special.pads_left = pads_left(config);
  add_eos_ids(read_config(files, "generation_config.json"), special.config_eos);
  add_eos_ids(read_config(files, "config.json"), special.config_eos);
  return special;
}

}  // namespace lewis
