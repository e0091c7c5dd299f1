// The roles of special tokens in a GGUF file.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "app/gguf/families/architecture.h"
#include "app/gguf/vocabulary/tokenizer_files.h"
#include "io/gguf.h"

namespace lewis {

// Which tokens begin and end texts and the like: by tokenizer_config.json and the template of
// tokenizer.json for one text, which also says whether they are added; else by the ids of
// config.json, and last by what the family's files have. `id_of` finds tokens by their texts.
// Error(kInput): a token that begins or ends a text, is unknown or pads is not in the vocabulary.
void add_special_tokens(const TokenizerFiles& files, const Json& config,
                        const GgufArchitecture& architecture, int64_t vocabulary,
                        const std::function<std::optional<int64_t>(const std::string&)>& id_of,
                        GgufMetadata& m);

// tokenizer.chat_template, and others by their names. The file chat_template.jinja counts before
// tokenizer_config.json, as in transformers.
void add_chat_templates(const TokenizerFiles& files, GgufMetadata& m);

}  // namespace lewis
