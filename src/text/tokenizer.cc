#include "text/tokenizer.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/hash.h"
#include "text/rust_border.h"
#include "text/tokenizer_child.h"

namespace lewis {

struct Tokenizer::Impl {
  std::string file;  // for messages
  TokenizerChild child;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(const std::string& json, const std::string& where) {
  return Tokenizer(std::make_unique<Impl>(Impl{where, TokenizerChild(json, where)}));
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
  const std::vector<uint32_t> ids = impl_->child.encode(text, how);
  std::vector<int32_t> result;
  result.reserve(ids.size());
  for (const uint32_t id : ids) {
    if (id > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) {
      throw input_error("{}: token id {} is too large", impl_->file, id);
    }
    result.push_back(static_cast<int32_t>(id));
  }
  return result;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  for (const int32_t id : ids) {
    if (id < 0) throw input_error("{}: token id {} is negative", impl_->file, id);
  }
  return impl_->child.decode(ids, skip_special_tokens);
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  return tokens_to_ids(std::vector<std::string>{std::string(token)}).front();
}

std::vector<std::optional<int32_t>> Tokenizer::tokens_to_ids(
    std::span<const std::string> tokens) const {
  std::vector<std::optional<int32_t>> result;
  result.reserve(tokens.size());
  for (const int64_t id : impl_->child.ids_of(tokens)) {
    const bool fits = id >= 0 && id <= std::numeric_limits<int32_t>::max();
    result.push_back(fits ? std::optional(static_cast<int32_t>(id)) : std::nullopt);
  }
  return result;
}

std::optional<std::string> Tokenizer::id_to_token(int32_t id) const {
  return id < 0 ? std::nullopt : impl_->child.token_of(id);
}

size_t Tokenizer::vocab_size() const { return impl_->child.vocab_size(); }

}  // namespace lewis
