// `tokenizer_source`, `tokenizer:` and `chat_template` of a recipe, as written.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "yaml/yaml.h"

namespace lewis {

// tokenizer.tokens.TOKEN.source: whose row of the embeddings a token gets in models that lack it.
struct TokenSource {
  enum class Kind { kDefault, kZero, kModelToken };
  Kind kind = Kind::kDefault;
  std::string model;                 // kModelToken: one of the recipe's models
  std::optional<std::string> token;  // of that model; neither: the token itself
  std::optional<int64_t> token_id;
  bool operator==(const TokenSource&) const = default;
};

struct TokenSetting {
  std::string token;
  TokenSource source;
  bool force = false;  // also in models that have the token
  int line = 0;
};

struct TokenizerSettings {
  std::string source = "union";  // "base", "union" or a model
  std::vector<TokenSetting> tokens;
  int64_t pad_to_multiple_of = 0;  // rows of the embeddings; 0: as many as tokens
  int line = 0;
};

// The settings of the keys `tokenizer_source` (a text) and `tokenizer` (a map) of the recipe
// `root`; nullopt if it has neither. Throws Error(kUsage) "WHERE:LINE: ..." that names the key,
// also for both. `ignored`: gets a line for each unknown key; null: they are refused.
std::optional<TokenizerSettings> parse_tokenizer(
    const YamlNode& root, std::string_view where,
    std::shared_ptr<std::vector<std::string>> ignored = nullptr);

}  // namespace lewis
