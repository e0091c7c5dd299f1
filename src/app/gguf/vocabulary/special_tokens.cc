#include "app/gguf/vocabulary/special_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace lewis {
namespace {

struct TokenRole {
  std::string_view name, key;
};
constexpr std::array<TokenRole, 9> kRoles = {{{"bos", "bos_token_id"},
                                              {"eos", "eos_token_id"},
                                              {"unk", "unknown_token_id"},
                                              {"pad", "padding_token_id"},
                                              {"sep", "seperator_token_id"},  // sic
                                              {"mask", "mask_token_id"},
                                              {"cls", ""},  // llama.cpp takes it from bos
                                              {"eot", "eot_token_id"},
                                              {"eom", "eom_token_id"}}};
constexpr size_t kMustBeTokens = 4;  // bos, eos, unk and pad
constexpr size_t kOfTokenizer = 7;   // those that tokenizers name themselves

std::string special_id(const Json& step) {
  return step.value("SpecialToken", Json::object()).value("id", "");
}

// The texts of tokens by their roles, and which of them are added to a text.
class Roles {
 public:
  explicit Roles(const TokenizerFiles& files) : files_(files) {
    for (size_t i = 0; i < kOfTokenizer; ++i) {
      const auto found = files.settings.find(fmt::format("{}_token", kRoles[i].name));
      const auto text = found == files.settings.end() ? std::nullopt : token_text(*found);
      if (text) texts[std::string(kRoles[i].name)] = *text;
    }
    if (texts["bos"].empty()) texts["bos"] = texts["cls"];
    if (texts["eos"].empty()) texts["eos"] = texts["sep"];
    for (const Json& step : files.steps("post_processor")) read_step(step);
    for (const char* role : {"bos", "eos", "sep"}) {
      const auto said = files.settings.find(fmt::format("add_{}_token", role));
      if (said != files.settings.end() && said->is_boolean())
        added.try_emplace(role, said->get<bool>());
    }
  }

  std::map<std::string, std::string> texts;  // "" where the tokenizer names none
  std::map<std::string, bool> added;         // of bos, eos and sep

 private:
  void read_step(const Json& step) {
    const std::string type = step.value("type", "");
    if (type == "ByteLevel") {
      added.try_emplace("bos", false);
      added.try_emplace("eos", false);
    } else if (type == "RobertaProcessing") {
      added["bos"] = added["eos"] = added["sep"] = true;
      if (texts["cls"].empty()) texts["cls"] = step.at("cls").at(0).get<std::string>();
      if (texts["sep"].empty()) texts["sep"] = step.at("sep").at(0).get<std::string>();
    } else if (type == "TemplateProcessing") {
      read_template(step);
    }
  }

  void read_template(const Json& step) {
    const Json single = step.value("single", Json::array());
    std::string first, last;
    if (single.size() > 1) {
      first = special_id(single.front());
      last = special_id(single.back());
    }
    if (!first.empty()) {
      for (const char* role : {"bos", "cls"}) {
        if (texts["bos"] != first && texts[role].empty()) texts[role] = first;
      }
      added["bos"] = first == texts["bos"] || first == texts["cls"];
    }
    if (!last.empty()) {
      if (last != texts["eos"]) {  // what was said to end a text ends a turn
        texts["eot"] = texts["eos"];
        texts["eos"] = last;
      }
      added["eos"] = true;
    }
    read_pair(step.value("pair", Json::array()), first, last);
  }

  // Whether a separator stands between two texts.
  void read_pair(const Json& pair, const std::string& first, const std::string& last) {
    std::vector<Json> steps(pair.begin(), pair.end());
    if (!first.empty() && !steps.empty() && special_id(steps.front()) == first)
      steps.erase(steps.begin());
    if (!last.empty() && !steps.empty() && special_id(steps.back()) == last) steps.pop_back();
    if (steps.size() < 3 || !steps.front().contains("Sequence") ||
        !steps.back().contains("Sequence"))
      return;
    const auto separates = [&](const Json& step) {
      const std::string id = special_id(step);
      return !id.empty() && (id == texts["sep"] || id == texts["eos"]);
    };
    bool separator = separates(steps[1]) && last.empty();
    if (steps.size() == 4) separator = separator || separates(steps[2]);
    added["sep"] = separator;
    if (separator && texts["sep"].empty()) texts["sep"] = texts["eos"];
  }

  const TokenizerFiles& files_;
};

// The id that config.json gives a role.
std::optional<int64_t> id_in_config(const Json& config, std::string_view role) {
  const std::string key = fmt::format("{}_token_id", role);
  for (const Json* json :
       {&config, config.contains("text_config") ? &config["text_config"] : nullptr}) {
    if (!json || !json->is_object()) continue;
    const auto found = json->find(key);
    if (found != json->end() && found->is_number_integer() && *found >= 0)
      return found->get<int64_t>();
  }
  return std::nullopt;
}

std::optional<int64_t> added_id(const TokenizerFiles& files, const std::string& text) {
  for (const Json& token : files.member("added_tokens")) {
    if (token.at("content") == text) return token.at("id").get<int64_t>();
  }
  return std::nullopt;
}

}  // namespace

void add_special_tokens(const TokenizerFiles& files, const Json& config,
                        const GgufArchitecture& architecture, int64_t vocabulary,
                        const std::function<std::optional<int64_t>(const std::string&)>& id_of,
                        GgufMetadata& m) {
  const auto set = [&](std::string_view key, int64_t id) {
    if (id < vocabulary && !key.empty())
      m.try_emplace(fmt::format("tokenizer.ggml.{}", key), static_cast<uint32_t>(id));
  };
  const auto key_of = [](std::string_view role) {
    return std::ranges::find(kRoles, role, &TokenRole::name)->key;
  };
  Roles roles(files);
  for (size_t i = 0; i < kRoles.size(); ++i) {
    const std::string name(kRoles[i].name), text = roles.texts[name];
    std::optional<int64_t> id = text.empty() ? std::nullopt : added_id(files, text);
    if (!id && (i < kOfTokenizer || !text.empty())) id = id_in_config(config, name);
    if (!id && !text.empty()) id = id_of(text);
    if (id) set(kRoles[i].key, *id);
    if (id || text.empty() || i >= kMustBeTokens) continue;
    throw input_error("{}: {}_token is '{}', which is no token",
                      files.files.path_of("tokenizer_config.json"), name, text);
  }
  for (const FamilyToken& token : architecture.tokens) {
    if (token.vocabulary != 0 && token.vocabulary != vocabulary) continue;
    const auto id = token.text.empty() ? token.id : id_of(std::string(token.text));
    if (id) set(key_of(token.role), *id);
  }
  for (const auto& [role, value] : roles.added)
    m[fmt::format("tokenizer.ggml.add_{}_token", role)] = value;
}

void add_chat_templates(const TokenizerFiles& files, GgufMetadata& m) {
  constexpr const char* kKey = "tokenizer.chat_template";
  if (const auto text = files.files.read("chat_template.jinja")) {
    m[kKey] = *text;
    return;
  }
  const auto found = files.settings.find("chat_template");
  if (found == files.settings.end()) return;
  if (found->is_string()) {
    m[kKey] = found->get<std::string>();
    return;
  }
  GgufArray names;
  for (const Json& named : *found) {  // several, by their names
    if (!named.is_object()) continue;
    std::string name = named.value("name", "");
    std::ranges::replace_if(
        name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
    const std::string text = named.value("template", "");
    if (name.empty() || text.empty()) continue;
    m[name == "default" ? kKey : fmt::format("{}.{}", kKey, name)] = text;
    if (name != "default") names.texts.push_back(name);
  }
  if (!names.texts.empty()) m["tokenizer.chat_templates"] = std::move(names);
}

}  // namespace lewis
