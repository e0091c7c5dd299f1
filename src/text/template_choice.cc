#include "text/template_choice.h"

#include <algorithm>

#include "base/error.h"
#include "base/suggest.h"
#include "base/text_file.h"
#include "text/chat_template.h"
#include "text/tokenizer_config.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOwnFile = "chat_template.jinja";
constexpr const char* kConfigFile = "tokenizer_config.json";

// A text or a list of {name, template}; null if the model has none.
Json template_of(const fs::path& folder) {
  if (fs::exists(folder / kOwnFile)) return read_text_file(folder / kOwnFile);
  const auto config = read_json_object(folder / kConfigFile);
  return config ? config->value("chat_template", Json()) : Json();
}

Json most_common(const std::vector<fs::path>& folders, size_t preferred) {
  std::vector<Json> all;
  for (const fs::path& folder : folders) all.push_back(template_of(folder));
  if (preferred < all.size())
    std::rotate(all.begin(), all.begin() + static_cast<ptrdiff_t>(preferred),
                all.begin() + static_cast<ptrdiff_t>(preferred) + 1);
  Json best;
  ptrdiff_t most = 0;
  for (const Json& candidate : all) {
    if (candidate.is_null()) continue;
    const auto votes = std::ranges::count(all, candidate);
    if (votes > most) best = candidate;
    most = std::max(most, votes);
  }
  return best;
}

}  // namespace

Json choose_template(const std::string& wanted, const std::vector<fs::path>& folders,
                     size_t preferred) {
  if (wanted == "auto") return most_common(folders, preferred);
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

void set_template(const fs::path& folder, const Json& chat_template,
                  std::map<std::string, std::string>& files, std::vector<std::string>& dropped) {
  // A processor's copy of the template would contradict.
  dropped.push_back("chat_template.json");
  if (chat_template.is_string() && fs::exists(folder / kOwnFile)) {
    files[kOwnFile] = chat_template.get<std::string>();
    return;
  }
  dropped.push_back(kOwnFile);
  Json config = Json::object();
  if (const auto newer = files.find(kConfigFile); newer != files.end()) {
    config = parse_json(newer->second, kConfigFile);
  } else if (auto old = read_json_object(folder / kConfigFile)) {
    config = *old;
  }
  config["chat_template"] = chat_template;
  files[kConfigFile] = json_object_text(config);
}

}  // namespace lewis
