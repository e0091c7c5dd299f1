#include "text/tokenizer.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/hash.h"
#include "text/rust_border.h"

namespace lewis {

struct Tokenizer::Impl {
  std::unique_ptr<LewisTokenizer, rust::FreeTokenizer> tokenizer;
  std::string file;  // for messages
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

namespace {

LewisTokenizer* parse_tokenizer(const std::string& json, const std::string& file) {
  LewisTokenizer* tokenizer = nullptr;
  rust::Text error;
  if (!lewis_tokenizer_new(json.data(), json.size(), &tokenizer, error.out())) {
    throw input_error("{}: not a tokenizer: {}", file, error.view());
  }
  return tokenizer;
}

}  // namespace

Tokenizer Tokenizer::from_json(const std::string& json, const std::string& where) {
  auto impl = std::make_unique<Impl>();
  impl->file = where;
  impl->tokenizer.reset(parse_tokenizer(json, where));
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::load(const ModelFiles& files) {
  const std::string file = files.path_of("tokenizer.json");
  const auto json = files.read("tokenizer.json");
  if (!json) throw input_error("{}: missing; lewis reads tokenizers only in this format", file);
  Tokenizer t = from_json(*json, file);
  t.special_ = read_special_tokens(files);
  t.bos_id_ = t.token_to_id(t.special_.bos);
  t.eos_id_ = t.token_to_id(t.special_.eos);
  t.pad_id_ = t.token_to_id(t.special_.pad);
  if (!t.eos_id_ && !t.special_.config_eos.empty()) t.eos_id_ = t.special_.config_eos.front();
  if (t.eos_id_) t.stop_ids_.push_back(*t.eos_id_);
  for (int32_t id : t.special_.config_eos) {
    if (std::ranges::find(t.stop_ids_, id) == t.stop_ids_.end()) t.stop_ids_.push_back(id);
  }

  // Hashes of hashes: the border between the two files counts.
  t.identity_ =
      sha256_hex(sha256_hex(*json) + sha256_hex(files.read("tokenizer_config.json").value_or("")));
  return t;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                       SpecialText special) const {
  unsigned how = 0;
  if (add_special_tokens) how |= LEWIS_ADD_SPECIAL_TOKENS;
  if (special == SpecialText::kAsText) how |= LEWIS_SPECIAL_TOKENS_AS_TEXT;
  rust::Ids ids;
  rust::Text error;
  if (!lewis_tokenizer_encode(impl_->tokenizer.get(), text.data(), text.size(), how, ids.out(),
                              error.out())) {
    throw input_error("{}: a text cannot be encoded: {}", impl_->file, error.view());
  }
  std::vector<int32_t> result;
  result.reserve(ids.size());
  for (uint32_t id : ids) {
    if (id > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) {
      throw input_error("{}: token id {} is too large", impl_->file, id);
    }
    result.push_back(static_cast<int32_t>(id));
  }
  return result;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<uint32_t> unsigned_ids;
  unsigned_ids.reserve(ids.size());
  for (int32_t id : ids) {
    if (id < 0) throw input_error("{}: token id {} is negative", impl_->file, id);
    unsigned_ids.push_back(static_cast<uint32_t>(id));
  }
  rust::Text text, error;
  if (!lewis_tokenizer_decode(impl_->tokenizer.get(), unsigned_ids.data(), unsigned_ids.size(),
                              skip_special_tokens, text.out(), error.out())) {
    throw input_error("{}: token ids cannot be decoded: {}", impl_->file, error.view());
  }
  return text.str();
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  int64_t id = -1;
  rust::Text error;
  if (!lewis_tokenizer_token_to_id(impl_->tokenizer.get(), token.data(), token.size(), &id,
                                   error.out())) {
    throw input_error("{}: {}", impl_->file, error.view());
  }
  if (id < 0 || id > std::numeric_limits<int32_t>::max()) return std::nullopt;
  return static_cast<int32_t>(id);
}

std::optional<std::string> Tokenizer::id_to_token(int32_t id) const {
  if (id < 0) return std::nullopt;
  bool found = false;
  rust::Text token, error;
  if (!lewis_tokenizer_id_to_token(impl_->tokenizer.get(), static_cast<uint32_t>(id), token.out(),
                                   &found, error.out())) {
    throw input_error("{}: {}", impl_->file, error.view());
  }
  return found ? std::optional(token.str()) : std::nullopt;
}

size_t Tokenizer::vocab_size() const {
  size_t size = 0;
  rust::Text error;
  if (!lewis_tokenizer_vocab_size(impl_->tokenizer.get(), &size, error.out())) {
    throw input_error("{}: {}", impl_->file, error.view());
  }
  return size;
}

}  // namespace lewis
