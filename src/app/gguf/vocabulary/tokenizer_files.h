// The files that describe a tokenizer, read once.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/model_files.h"

namespace lewis {

struct TokenizerFiles {
  explicit TokenizerFiles(const ModelFiles& of_model);  // which must outlive this

  const ModelFiles& files;
  std::string where;  // tokenizer.json, for messages
  Json tokenizer;     // {} where there is none
  Json settings;      // tokenizer_config.json, {} where there is none

  // A member of tokenizer.json, null where it is not there.
  const Json& member(const char* key) const;
  // The steps of a pre_tokenizer, normalizer or post_processor, which may be a sequence of them.
  std::vector<Json> steps(const char* key) const;
  Error refuse(const std::string& what) const { return input_error("{}: {}", where, what); }
};

// "<s>" or {"content": "<s>", ...}; nothing for another value.
std::optional<std::string> token_text(const Json& token);

}  // namespace lewis
