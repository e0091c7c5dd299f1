#include "text/chat_template.h"

#include <cstring>
#include <ctime>

#include "base/error.h"
#include "base/json.h"
#include "text/child_process.h"
#include "text/rust_border.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"

namespace lewis {

struct ChatTemplate::Impl {
  Impl(const Json& variables, ChildProcess process)
      : special(variables), child(std::move(process)) {}

  Json special;
  ChildProcess child;
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

using Compiled = std::shared_ptr<LewisTemplate>;

Compiled compile(const std::string& source, const std::string& where) {
  LewisTemplate* compiled = nullptr;
  rust::Text error;
  if (!lewis_template_new(source.data(), source.size(), &compiled, error.out()))
    throw rust::failure(error, "{}: not a chat template", where);
  return Compiled(compiled, rust::FreeTemplate());
}

// Bytes that a template may write beside 64 per byte of the conversation.
constexpr size_t kMostText = size_t{256} << 10;

// A request is the time, in 8 bytes, and the context as JSON.
std::string render_request(const Compiled& compiled, const std::string& where,
                           std::string_view request) {
  int64_t now = 0;
  std::memcpy(&now, request.data(), sizeof now);
  const std::string_view context = request.substr(sizeof now);
  rust::Text text, error;
  if (!lewis_template_render(compiled.get(), context.data(), context.size(), now, text.out(),
                             error.out())) {
    throw rust::failure(error, "{}: cannot be rendered", where);
  }
  // Whoever gets the text spends time on every byte of it.
  const size_t most = kMostText + 64 * context.size();
  if (text.view().size() > most) {
    throw input_error("{}: cannot be rendered: it writes {} bytes for a conversation of {}", where,
                      text.view().size(), context.size());
  }
  return text.str();
}

// Templates of real models take 5 microseconds and 3 KB per KB of conversation and less than a
// millisecond beside that; these are at least twenty times as much.
Allowance rendering(size_t context) {
  return {std::chrono::microseconds(20'000 + context), 64 * uint64_t{context}};
}
constexpr uint64_t kMemory = uint64_t{128} << 20;

ChildProcess start(const std::string& source, const std::string& where) {
  Allowance begin = rendering(source.size());
  begin.memory += kMemory;
  return ChildProcess({where, begin, [&] {
                         const Compiled compiled = compile(source, where);
                         return [compiled, where](std::string_view request) {
                           return render_request(compiled, where, request);
                         };
                       }});
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
    : impl_(std::make_unique<Impl>(special, start(source, where))) {}

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
  const int64_t now = options.now.value_or(local_now());
  std::string request(sizeof now, '\0');
  std::memcpy(request.data(), &now, sizeof now);
  request += context.dump();
  return impl_->child.ask(request, rendering(request.size()));
}

bool ChatTemplate::has_ended() const { return impl_->child.has_ended(); }

void ChatTemplate::set_waiting(std::function<void()> waiting) {
  impl_->child.set_waiting(std::move(waiting));
}

}  // namespace lewis
