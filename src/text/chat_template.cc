#include "text/chat_template.h"

#include <ctime>

#include "base/error.h"
#include "base/json.h"
#include "text/rust_border.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"

namespace lewis {

struct ChatTemplate::Impl {
  std::unique_ptr<LewisTemplate, rust::FreeTemplate> compiled;
  std::string where;  // for messages
  Json special;
};

namespace {

// The variables for the special tokens that a model has, as transformers passes them.
Json special_variables(const ModelFiles& files) {
  const SpecialTokens tokens = read_special_tokens(files);
  Json variables = Json::object();
  const auto add = [&](const char* name, const std::string& token) {
    if (!token.empty()) variables[name] = token;
  };
  add("bos_token", tokens.bos);
  add("eos_token", tokens.eos);
  add("unk_token", tokens.unk);
  add("pad_token", tokens.pad);
  return variables;
}

// "chat_template" of tokenizer_config.json: a string or a list of {name, template}.
std::string default_template(const Json& value, const std::string& where) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) {
    for (const Json& entry : value) {
      if (entry.is_object() && entry.value("name", Json()) == "default" &&
          entry.value("template", Json()).is_string()) {
        return entry["template"].get<std::string>();
      }
    }
    throw input_error("{}: no template in the list is named \"default\"", where);
  }
  throw input_error("{}: expected a string or a list of {{name, template}}, found {}", where,
                    value.type_name());
}

// Seconds since 1970-01-01 00:00 of the local clock.
int64_t local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return static_cast<int64_t>(now) + local.tm_gmtoff;
}

}  // namespace

ChatTemplate ChatTemplate::load(const ModelFiles& files) {
  if (const auto own = files.read("chat_template.jinja")) {
    return ChatTemplate(*own, files.path_of("chat_template.jinja"), special_variables(files));
  }
  const Json config = read_json_object(files, "tokenizer_config.json").value_or(Json::object());
  const std::string where = files.path_of("tokenizer_config.json") + ": chat_template";
  if (config.value("chat_template", Json()).is_null()) {
    throw input_error(
        "{}: the model has no chat template: neither chat_template.jinja nor 'chat_template' in "
        "tokenizer_config.json",
        files.folder.string());
  }
  return ChatTemplate(default_template(config["chat_template"], where), where,
                      special_variables(files));
}

ChatTemplate::ChatTemplate(const std::string& source, std::string where)
    : ChatTemplate(source, std::move(where), Json::object()) {}

ChatTemplate::ChatTemplate(const std::string& source, std::string where, const Json& special)
    : impl_(std::make_unique<Impl>()) {
  impl_->where = std::move(where);
  impl_->special = special;
  LewisTemplate* compiled = nullptr;
  rust::Text error;
  if (!lewis_template_new(source.data(), source.size(), &compiled, error.out())) {
    throw input_error("{}: not a chat template: {}", impl_->where, error.view());
  }
  impl_->compiled.reset(compiled);
}

ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const Json& messages, const ChatOptions& options) const {
  Json context = impl_->special;
  for (const auto& [name, value] : options.variables->items()) context[name] = value;
  context["messages"] = messages;
  context["tools"] = *options.tools;
  context["documents"] = nullptr;
  context["add_generation_prompt"] = options.add_generation_prompt;
  const std::string json = context.dump();
  rust::Text text, error;
  if (!lewis_template_render(impl_->compiled.get(), json.data(), json.size(),
                             options.now.value_or(local_now()), text.out(), error.out())) {
    throw input_error("{}: cannot be rendered: {}", impl_->where, error.view());
  }
  return text.str();
}

}  // namespace lewis
