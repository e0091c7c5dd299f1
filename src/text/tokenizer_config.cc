#include "text/tokenizer_config.h"

#include "base/config_json.h"
#include "base/error.h"
#include "base/json.h"

namespace lewis {

std::optional<Json> read_json_object(const ModelFiles& files, const std::string& name) {
  const auto text = files.read(name);
  if (!text) return std::nullopt;
  Json json = name == "config.json" ? parse_config(*text, files.path_of(name))
                                    : parse_json(*text, files.path_of(name));
  if (!json.is_object()) throw input_error("{}: expected a JSON object", files.path_of(name));
  return json;
}

std::string json_object_text(const Json& object) {
  std::string text = object.dump(2);
  const std::string_view as_float = "\"model_max_length\": 1e+30";
  const size_t at = text.find(as_float);
  if (at != std::string::npos) {
    text.replace(at, as_float.size(), "\"model_max_length\": 1000000000000000019884624838656");
  }
  return text + "\n";
}

}  // namespace lewis
