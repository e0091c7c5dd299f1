// Chat templates by name, each after the format's public description.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/suggest.h"
#include "text/template_choice.h"

namespace lewis {
namespace {

// Stanford Alpaca (README of tatsu-lab/stanford_alpaca): a preamble, then headings. A system
// message takes the preamble's place; an answer ends with EOS, as in its training.
constexpr std::string_view kAlpaca =
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{{- messages[0]['content'] | trim + '\\n\\n' -}}"
    "{%- else -%}"
    "{{- 'Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\\n\\n' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- '### Instruction:\\n' + message['content'] | trim + '\\n\\n' -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- '### Response:\\n' + message['content'] | trim -}}{{- eos_token -}}{{- '\\n\\n' -}}"
    "{%- elif not loop.first or message['role'] != 'system' -%}"
    "{{- raise_exception('alpaca knows the roles user and assistant, and system at the begin') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '### Response:\\n' -}}{%- endif -%}";

// ChatML (OpenAI's chatml.md): every message between <|im_start|>ROLE and <|im_end|>.
constexpr std::string_view kChatMl =
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

// EXAONE 3 (model card of EXAONE-3.0-7.8B-Instruct): the user's turn has no end of turn; without a
// system message an empty one comes first.
constexpr std::string_view kExaone =
    "{%- for message in messages -%}"
    "{%- if loop.first and message['role'] != 'system' -%}"
    "{{- '[|system|][|endofturn|]\\n' -}}"
    "{%- endif -%}"
    "{{- '[|' + message['role'] + '|]' + message['content'] | trim -}}"
    "{%- if message['role'] != 'user' -%}{{- '[|endofturn|]' -}}{%- endif -%}"
    "{{- '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '[|assistant|]' -}}{%- endif -%}";

// Llama 3 (Meta's prompt format): headers, two line feeds, <|eot_id|> with nothing behind it.
constexpr std::string_view kLlama3 =
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
    "message['content'] | trim + '<|eot_id|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}"
    "{%- endif -%}";

// Mistral 7B Instruct (model card): <s>[INST] user [/INST] answer</s> [INST] user [/INST]. A system
// message stands before the first of the user, parted by an empty line.
constexpr std::string_view kMistral =
    "{{- bos_token -}}"
    "{%- set has_system = messages and messages[0]['role'] == 'system' -%}"
    "{%- set turns = messages[1:] if has_system else messages -%}"
    "{%- for message in turns -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) or message['role'] not in "
    "['user', 'assistant'] -%}"
    "{{- raise_exception('roles must alternate: user, assistant, user, ...') -}}"
    "{%- endif -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- ' [INST] ' if not loop.first else '[INST] ' -}}"
    "{%- if loop.first and has_system -%}"
    "{{- messages[0]['content'] | trim + '\\n\\n' -}}"
    "{%- endif -%}"
    "{{- message['content'] | trim + ' [/INST]' -}}"
    "{%- else -%}"
    "{{- ' ' + message['content'] | trim -}}{{- eos_token -}}"
    "{%- endif -%}"
    "{%- endfor -%}";

constexpr std::array<std::string_view, 5> kNames = {"alpaca", "chatml", "exaone", "llama3",
                                                    "mistral"};
constexpr std::array<std::string_view, 5> kTemplates = {kAlpaca, kChatMl, kExaone, kLlama3,
                                                        kMistral};

}  // namespace

std::span<const std::string_view> builtin_template_names() { return kNames; }

std::string_view builtin_template(std::string_view name) {
  const auto at = std::ranges::find(kNames, name);
  if (at != kNames.end()) return kTemplates[static_cast<size_t>(at - kNames.begin())];
  throw usage_error("chat_template '{}' is not known; did you mean '{}'?", name,
                    nearest_name(name, kNames));
}

}  // namespace lewis
