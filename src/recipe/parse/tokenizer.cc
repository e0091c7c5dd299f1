// `tokenizer_source:` and `tokenizer:`.
#include "recipe/parse/recipe_keys.h"
#include "recipe/tokenizer_settings.h"

namespace lewis {
namespace {

using Kind = YamlNode::Kind;

class TokenizerParser : private RecipeKeys {
 public:
  TokenizerParser(std::string_view where, Notes ignored)
      : RecipeKeys(std::string(where), std::move(ignored)) {}

  std::optional<TokenizerSettings> settings(const YamlNode& root) const {
    const YamlNode* source = given(root, "tokenizer_source");
    const auto map = section(root, "tokenizer");
    if (source && map) fail(map->line, "a recipe has tokenizer_source or tokenizer, found both");
    TokenizerSettings s;
    if (source) {
      s.source = text(*source, "tokenizer_source");
      s.line = source->line;
    }
    if (map) read_map(*map, s);
    return source || map ? std::optional(s) : std::nullopt;
  }

 private:
  int64_t row_count(const YamlNode& n, std::string_view what, uint64_t least) const {
    constexpr uint64_t kMost = 1'000'000'000;
    const uint64_t value = count(n, what, least);
    if (value >= kMost) fail(n.line, fmt::format("{} {} is too large", what, value));
    return static_cast<int64_t>(value);
  }

  void read_map(const YamlNode& map, TokenizerSettings& s) const {
    check_keys(map, {"source", "tokens", "pad_to_multiple_of"}, "tokenizer");
    s.line = map.line;
    if (const YamlNode* n = given(map, "source")) s.source = text(*n, "tokenizer.source");
    if (const YamlNode* n = given(map, "pad_to_multiple_of"))
      s.pad_to_multiple_of = row_count(*n, "pad_to_multiple_of", 1);
    const YamlNode* tokens = given(map, "tokens");
    if (!tokens) return;
    if (tokens->kind != Kind::kMap) fail(tokens->line, "tokenizer.tokens must be a map of tokens");
    for (const auto& [token, setting] : tokens->entries) {
      if (token.scalar.empty()) fail(token.line, "tokenizer.tokens: a token must have a name");
      s.tokens.push_back(token_of(token, setting));
    }
  }

  TokenSetting token_of(const YamlNode& token, const YamlNode& n) const {
    TokenSetting s{.token = any_text(token, "a token"), .line = token.line};
    if (n.is_null()) return s;
    check_keys(n, {"source", "force"}, "token " + in_quotes(s.token));
    if (const YamlNode* source = given(n, "source")) s.source = source_of(*source);
    if (const YamlNode* force = given(n, "force")) s.force = flag(*force, "force");
    return s;
  }

  // A model, or {kind: zero}, or {kind: model_token, model, token or token_id}.
  TokenSource source_of(const YamlNode& n) const {
    TokenSource s;
    if (n.kind == Kind::kScalar) {
      s.kind = TokenSource::Kind::kModelToken;
      s.model = text(n, "source");
      return s;
    }
    check_keys(n, {"kind", "model", "token", "token_id"}, "the source of a token");
    const YamlNode* kind = given(n, "kind");
    if (!kind) fail(n.line, "the source of a token needs 'kind': zero or model_token");
    const std::string name = text(*kind, "kind");
    if (name != "zero" && name != "model_token") {
      fail(kind->line,
           fmt::format("kind {} is not known; expected zero or model_token", in_quotes(name)));
    }
    const YamlNode *model = given(n, "model"), *token = given(n, "token"),
                   *id = given(n, "token_id");
    if (name == "zero") {
      if (model || token || id) fail(n.line, "kind zero takes neither model nor token");
      s.kind = TokenSource::Kind::kZero;
      return s;
    }
    if (!model) fail(n.line, "kind model_token needs 'model'");
    if (!token == !id) fail(n.line, "kind model_token needs either 'token' or 'token_id'");
    s.kind = TokenSource::Kind::kModelToken;
    s.model = text(*model, "model");
    if (token) s.token = text(*token, "token");
    if (id) s.token_id = row_count(*id, "token_id", 0);
    return s;
  }
};

}  // namespace

std::optional<TokenizerSettings> parse_tokenizer(
    const YamlNode& root, std::string_view where,
    std::shared_ptr<std::vector<std::string>> ignored) {
  return TokenizerParser(where, std::move(ignored)).settings(root);
}

}  // namespace lewis
