#include "app/gguf/vocabulary/tokenizer_files.h"

namespace lewis {
namespace {

Json read_object(const ModelFiles& files, const std::string& name) {
  const auto text = files.read(name);
  if (!text) return Json::object();
  Json json = parse_json(*text, files.path_of(name));
  if (!json.is_object()) throw input_error("{}: not a JSON object", files.path_of(name));
  return json;
}

}  // namespace

TokenizerFiles::TokenizerFiles(const ModelFiles& of_model)
    : files(of_model),
      where(of_model.path_of("tokenizer.json")),
      tokenizer(read_object(of_model, "tokenizer.json")),
      settings(read_object(of_model, "tokenizer_config.json")) {}

const Json& TokenizerFiles::member(const char* key) const {
  static const Json none;
  const auto found = tokenizer.find(key);
  return found == tokenizer.end() ? none : *found;
}

std::vector<Json> TokenizerFiles::steps(const char* key) const {
  const Json& all = member(key);
  if (all.is_null()) return {};
  if (all.value("type", "") != "Sequence") return {all};
  for (const char* list : {"pretokenizers", "normalizers", "processors"}) {
    if (all.contains(list)) return all[list].get<std::vector<Json>>();
  }
  return {};
}

std::optional<std::string> token_text(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content")) return token["content"].get<std::string>();
  return std::nullopt;
}

}  // namespace lewis
