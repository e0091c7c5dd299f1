#include "app/same_tokens.h"

#include "base/json.h"

namespace lewis {
namespace {

// Whether all tokens of `model` have the ids in `other` that they have here. Only vocabularies by
// name (BPE, WordPiece) are looked at.
bool has_tokens_of(const RunningModel& model, const Tokenizer& other) {
  const ModelFiles files = model.input.files();
  const Json json =
      parse_json(files.read("tokenizer.json").value_or("{}"), files.path_of("tokenizer.json"));
  std::vector<std::string> texts;
  std::vector<std::optional<int32_t>> ids;
  const Json parts = json.value("model", Json::object());
  if (!parts.is_object() || !parts.contains("vocab") || !parts["vocab"].is_object()) return false;
  const auto add = [&](const std::string& text, const Json& id) {
    texts.push_back(text);
    ids.emplace_back(id.is_number_integer() ? std::optional(id.get<int32_t>()) : std::nullopt);
  };
  for (const auto& [text, id] : parts["vocab"].items()) add(text, id);
  for (const Json& token : json.value("added_tokens", Json::array())) {
    if (token.is_object() && token.contains("id") && token.value("content", Json()).is_string())
      add(token["content"].get<std::string>(), token["id"]);
  }
  return other.tokens_to_ids(texts) == ids;
}

}  // namespace

bool have_same_tokens(const RunningModel& a, const RunningModel& b) {
  if (!a.tokenizer || !b.tokenizer) return !a.tokenizer && !b.tokenizer;
  if (a.tokenizer->identity() == b.tokenizer->identity()) return true;
  return has_tokens_of(a, *b.tokenizer) && has_tokens_of(b, *a.tokenizer);
}

}  // namespace lewis
