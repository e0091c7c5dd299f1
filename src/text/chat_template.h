// A model's chat template: messages to the text that the model was trained on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <lewis/error.h>

#include "base/json_fwd.h"
#include "base/model_files.h"

namespace lewis {

// Options of rendering, as the arguments of transformers' apply_chat_template.
struct ChatOptions {
  bool add_generation_prompt = false;  // end with what begins the assistant's answer
  JsonBox tools;                       // null, or a list of JSON schemas
  // More variables for the template: {"enable_thinking": false}.
  JsonBox variables = JsonBox::object();
  // The time that strftime_now formats, in seconds since 1970-01-01 00:00 of the local clock.
  // Unset: the present.
  std::optional<int64_t> now;
};

// A template is a program of the model's makers, and runs in a process of its own
// (child_process.h). Movable; render may be called from any thread.
class ChatTemplate {
 public:
  // From chat_template.jinja of a model, or "chat_template" of tokenizer_config.json (a
  // string, or a list of {name, template}: the one named "default"). Throws Error(kInput) that
  // names the file when the template is missing or does not compile.
  static ChatTemplate load(const ModelFiles& files);
  // From Jinja source; `where` begins the messages of errors, `special` holds the variables that
  // every rendering gets: {"bos_token": "<s>"}.
  ChatTemplate(const std::string& source, std::string where, const Json& special);
  ChatTemplate(const std::string& source, std::string where);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // messages: a list of {"role": ..., "content": ...}. Throws Error(kInput) with the template's own
  // words where it raises an exception, and as ChildProcess::ask does where it does not end.
  std::string render(const Json& messages, const ChatOptions& options = {}) const;

  // Several renderings in one request, which is faster by the way to the child and back.
  struct Job {
    const Json* messages;
    ChatOptions options;
  };
  struct Rendering {
    std::string text;
    std::optional<Error> error;  // instead of the text; of the template's own words
  };
  // As many as jobs. Throws as render does where the template did not keep its limits.
  std::vector<Rendering> render_all(const std::vector<Job>& jobs) const;

  // True once a rendering did not keep its limits: every later one throws the same Error.
  bool has_ended() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lewis
