#include "text/template_choice.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "text/chat_template.h"
#include "text/tokenizer_config.h"

namespace lewis {
namespace {

constexpr const char* kOwnFile = "chat_template.jinja";
constexpr const char* kConfigFile = "tokenizer_config.json";

// A text or a list of {name, template}; null if the model has none.
Json template_of(const ModelFiles& files) {
  if (const auto own = files.read(kOwnFile)) return *own;
  const auto config = read_json_object(files, kConfigFile);
  return config ? config->value("chat_template", Json()) : Json();
}

Json most_common(const std::vector<ModelFiles>& models, size_t preferred) {
  std::vector<Json> all;
  for (const ModelFiles& files : models) all.push_back(template_of(files));
  Json best;
  ptrdiff_t most = 0;
  const auto vote = [&](const Json& candidate) {
    const auto votes = candidate.is_null() ? 0 : std::ranges::count(all, candidate);
    if (votes > most) best = candidate;
    most = std::max(most, votes);
  };
  vote(all.at(preferred));
  for (const Json& candidate : all) vote(candidate);
  return best;
}

}  // namespace

Json choose_template(const std::string& wanted, const std::vector<ModelFiles>& models,
                     size_t preferred) {
  if (wanted == "auto") return most_common(models, preferred);
  const auto names = builtin_template_names();
  if (std::ranges::find(names, wanted) != names.end()) return builtin_template(wanted);
  if (wanted.find('{') == std::string::npos || wanted.size() < 20) {
    throw usage_error("chat_template '{}' is neither auto, nor a built-in one ({}), nor Jinja",
                      wanted, fmt::join(names, ", "));
  }
  try {
    ChatTemplate(wanted, "chat_template");
  } catch (const Error& e) {
    throw usage_error("{}", e.what());
  }
  return wanted;
}

void set_template(ModelFiles& files, const Json& chat_template) {
  files.changed["chat_template.json"] = std::nullopt;  // a processor's copy would contradict
  if (chat_template.is_string() && files.read(kOwnFile)) {
    files.changed[kOwnFile] = chat_template.get<std::string>();
    return;
  }
  files.changed[kOwnFile] = std::nullopt;
  Json config = read_json_object(files, kConfigFile).value_or(Json::object());
  config["chat_template"] = chat_template;
  files.changed[kConfigFile] = json_object_text(config);
}

}  // namespace lewis
