#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "base/error.h"
#include "base/suggest.h"
#include "recipe/tokenizer_settings.h"

namespace lewis {
namespace {

using Kind = YamlNode::Kind;
using Names = std::vector<std::string_view>;

class TokenizerParser {
 public:
  explicit TokenizerParser(std::string_view where) : where_(where) {}

  std::optional<TokenizerSettings> settings(const YamlNode& root) const {
    const YamlNode* source = given(root, "tokenizer_source");
    const YamlNode* map = given(root, "tokenizer");
    if (source && map) fail(map->line, "a recipe has tokenizer_source or tokenizer, found both");
    TokenizerSettings s;
    if (source) {
      s.source = text_of(*source, "tokenizer_source");
      s.line = source->line;
    }
    if (map) read_map(*map, s);
    return source || map ? std::optional(s) : std::nullopt;
  }

 private:
  [[noreturn]] void fail(int line, std::string_view message) const {
    throw usage_error("{}:{}: {}", where_, line, message);
  }

  // A key that is there and not null.
  static const YamlNode* given(const YamlNode& map, std::string_view key) {
    const YamlNode* n = map.find(key);
    return n && !n->is_null() ? n : nullptr;
  }

  void check_keys(const YamlNode& map, const Names& known, std::string_view what) const {
    if (map.kind != Kind::kMap) fail(map.line, fmt::format("{} must be a map of keys", what));
    for (const auto& [key, _] : map.entries) {
      if (std::ranges::find(known, key.scalar) != known.end()) continue;
      fail(key.line, fmt::format("unknown key {} in {}; did you mean '{}'?", in_quotes(key.scalar),
                                 what, nearest_name(key.scalar, known)));
    }
  }

  std::string text_of(const YamlNode& n, std::string_view what) const {
    if (n.kind != Kind::kScalar || n.is_null() || n.scalar.empty())
      fail(n.line, fmt::format("'{}' must be a text", what));
    return n.scalar;
  }

  int64_t count_of(const YamlNode& n, std::string_view what, int64_t least) const {
    const auto value = n.number();
    if (value && *value >= static_cast<double>(least) && *value == std::floor(*value) &&
        *value < 1e9) {
      return static_cast<int64_t>(*value);
    }
    fail(n.line, fmt::format("{} must be a whole number of at least {}, found {}", what, least,
                             n.kind == Kind::kScalar ? in_quotes(n.scalar) : "something else"));
  }

  void read_map(const YamlNode& map, TokenizerSettings& s) const {
    check_keys(map, {"source", "tokens", "pad_to_multiple_of"}, "tokenizer");
    s.line = map.line;
    if (const YamlNode* n = given(map, "source")) s.source = text_of(*n, "tokenizer.source");
    if (const YamlNode* n = given(map, "pad_to_multiple_of"))
      s.pad_to_multiple_of = count_of(*n, "pad_to_multiple_of", 1);
    const YamlNode* tokens = given(map, "tokens");
    if (!tokens) return;
    if (tokens->kind != Kind::kMap) fail(tokens->line, "tokenizer.tokens must be a map of tokens");
    for (const auto& [token, setting] : tokens->entries) {
      if (token.scalar.empty()) fail(token.line, "tokenizer.tokens: a token must have a name");
      s.tokens.push_back(token_of(token, setting));
    }
  }

  TokenSetting token_of(const YamlNode& token, const YamlNode& n) const {
    TokenSetting s{.token = token.scalar, .line = token.line};
    if (n.is_null()) return s;
    check_keys(n, {"source", "force"}, "token " + in_quotes(s.token));
    if (const YamlNode* source = given(n, "source")) s.source = source_of(*source);
    if (const YamlNode* force = given(n, "force")) {
      const auto value = force->boolean();
      if (!value) fail(force->line, "force must be true or false");
      s.force = *value;
    }
    return s;
  }

  // A model, or {kind: zero}, or {kind: model_token, model, token or token_id}.
  TokenSource source_of(const YamlNode& n) const {
    TokenSource s;
    if (n.kind == Kind::kScalar) {
      s.kind = TokenSource::Kind::kModelToken;
      s.model = text_of(n, "source");
      return s;
    }
    check_keys(n, {"kind", "model", "token", "token_id"}, "the source of a token");
    const YamlNode* kind = given(n, "kind");
    if (!kind) fail(n.line, "the source of a token needs 'kind': zero or model_token");
    const std::string name = text_of(*kind, "kind");
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
    s.model = text_of(*model, "model");
    if (token) s.token = text_of(*token, "token");
    if (id) s.token_id = count_of(*id, "token_id", 0);
    return s;
  }

  std::string_view where_;
};

}  // namespace

std::optional<TokenizerSettings> parse_tokenizer(const YamlNode& root, std::string_view where) {
  return TokenizerParser(where).settings(root);
}

}  // namespace lewis
