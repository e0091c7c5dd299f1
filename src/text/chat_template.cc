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
  Impl(std::string name, const Json& variables, ChildProcess process)
      : where(std::move(name)), special(variables), child(std::move(process)) {}

  std::string where;  // for messages
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

// A list of texts as bytes: each behind its size.
void append(std::string& bytes, std::string_view text) {
  const uint64_t size = text.size();
  bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
  bytes += text;
}

std::string_view take(std::string_view& bytes) {
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  const std::string_view text = bytes.substr(sizeof size, size);
  bytes.remove_prefix(sizeof size + size);
  return text;
}

std::string render_one(const Compiled& compiled, int64_t now, std::string_view context) {
  rust::Text text, error;
  if (!lewis_template_render(compiled.get(), context.data(), context.size(), now, text.out(),
                             error.out())) {
    throw rust::failure(error, "cannot be rendered");
  }
  // Whoever gets the text spends time on every byte of it.
  if (text.view().size() > kMostText + 64 * context.size()) {
    throw input_error("cannot be rendered: it writes {} bytes for a conversation of {}",
                      text.view().size(), context.size());
  }
  return text.str();
}

// A request is a list of times and contexts as JSON; the reply is a list of texts, each behind "+"
// or, for the message of an Error, behind "-".
std::string render_request(const Compiled& compiled, std::string_view request) {
  std::string reply;
  while (!request.empty()) {
    int64_t now = 0;
    std::memcpy(&now, take(request).data(), sizeof now);
    try {
      append(reply, "+" + render_one(compiled, now, take(request)));
    } catch (const Error& error) {
      if (error.code() != ExitCode::kInput) throw;
      append(reply, std::string("-") + error.what());
    }
  }
  return reply;
}

// Templates of real models take 5 microseconds and 3 KB per KB of conversation and less than a
// millisecond beside that; these are at least twenty times as much.
Allowance rendering(size_t bytes, size_t texts) {
  return {std::chrono::microseconds(10'000 * texts + bytes), 64 * uint64_t{bytes}};
}
constexpr uint64_t kMemory = uint64_t{128} << 20;

ChildProcess start(const std::string& source, const std::string& where) {
  Allowance begin = rendering(source.size(), 1);
  begin.memory += kMemory;
  return ChildProcess({where, begin, [&] {
                         const Compiled compiled = compile(source, where);
                         return [compiled](std::string_view request) {
                           return render_request(compiled, request);
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
    : impl_(std::make_unique<Impl>(where, special, start(source, where))) {}

ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const Json& messages, const ChatOptions& options) const {
  std::vector<Rendering> result = render_all(std::vector<Job>{Job{&messages, options}});
  if (result.front().error) throw Error(*result.front().error);
  return std::move(result.front().text);
}

std::vector<ChatTemplate::Rendering> ChatTemplate::render_all(const std::vector<Job>& jobs) const {
  std::string request;
  for (const Job& job : jobs) {
    const int64_t now = job.options.now.value_or(local_now());
    append(request, {reinterpret_cast<const char*>(&now), sizeof now});
    Json context = impl_->special;
    for (const auto& [name, value] : job.options.variables->items()) context[name] = value;
    context["messages"] = *job.messages;
    context["tools"] = *job.options.tools;
    context["documents"] = nullptr;
    context["add_generation_prompt"] = job.options.add_generation_prompt;
    append(request, context.dump());
  }
  const std::string reply = impl_->child.ask(request, rendering(request.size(), jobs.size()));
  std::string_view rest = reply;
  std::vector<Rendering> result;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const std::string_view text = take(rest);
    Rendering& rendered = result.emplace_back();
    if (text.front() == '+') {
      rendered.text = text.substr(1);
    } else {
      rendered.error = input_error("{}: {}", impl_->where, text.substr(1));
    }
  }
  return result;
}

bool ChatTemplate::has_ended() const { return impl_->child.has_ended(); }

}  // namespace lewis
