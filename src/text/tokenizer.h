// A model's tokenizer: text to token ids and back, and what its special tokens are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/model_files.h"

namespace lewis {

// The special tokens that a model folder names. Empty or missing: the folder names none.
struct SpecialTokens {
  std::string bos, eos, pad, unk;   // as text: "<|endoftext|>"
  std::vector<int32_t> config_eos;  // eos_token_id of generation_config.json, config.json
  bool pads_left = false;           // padding_side
  bool operator==(const SpecialTokens&) const = default;
};

// Reads tokenizer_config.json, special_tokens_map.json (for what the former lacks),
// generation_config.json and config.json, as far as they are there. Throws Error(kInput) that names
// the file and the key when one is not what it must be.
SpecialTokens read_special_tokens(const ModelFiles& files);

// Hugging Face's tokenizer.json. Such a file is a program of the model's makers, and runs in a
// process of its own (child_process.h): the functions throw what ChildProcess::ask throws. Movable;
// the const functions may be called from any thread.
class Tokenizer {
 public:
  // Reads tokenizer.json of a model, and the files of read_special_tokens.
  // Throws Error(kInput) that names the file and why when one is missing or broken.
  static Tokenizer load(const ModelFiles& files);
  // From the text of a tokenizer.json alone, without special tokens; `where` begins the messages.
  static Tokenizer from_json(const std::string& json, const std::string& where);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  enum class SpecialText { kAsTokens, kAsText };  // "<|endoftext|>" inside a text

  // `text` must be UTF-8, else Error(kInput). add_special_tokens: with what this tokenizer writes
  // around a text (BOS, mostly). Never truncates or pads, whatever tokenizer.json says.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens,
                              SpecialText special = SpecialText::kAsTokens) const;
  // Ids without a token are left out (negative ones: Error(kInput)); bytes that are not UTF-8 come
  // out as U+FFFD. Does not clean up spaces, as transformers 5 does not for these tokenizers.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  std::optional<int32_t> token_to_id(std::string_view token) const;
  std::vector<std::optional<int32_t>> tokens_to_ids(std::span<const std::string> tokens) const;
  std::optional<std::string> id_to_token(int32_t id) const;
  // The number of tokens, added ones included.
  size_t vocab_size() const;

  // The text and the id of a special token; empty when the model has none.
  const std::string& bos_token() const { return special_.bos; }
  const std::string& eos_token() const { return special_.eos; }
  const std::string& pad_token() const { return special_.pad; }
  std::optional<int32_t> bos_id() const { return bos_id_; }
  // The eos_token of the tokenizer; if it names none, the first eos_token_id of
  // generation_config.json or config.json.
  std::optional<int32_t> eos_id() const { return eos_id_; }
  std::optional<int32_t> pad_id() const { return pad_id_; }
  // Every id that ends a generation: the tokenizer's EOS, then those of generation_config.json and
  // config.json, each once.
  const std::vector<int32_t>& stop_ids() const { return stop_ids_; }
  bool pads_left() const { return special_.pads_left; }

  // SHA-256 over tokenizer.json and tokenizer_config.json: equal for equal tokenizers.
  const std::string& identity() const { return identity_; }

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
  SpecialTokens special_;
  std::optional<int32_t> bos_id_, eos_id_, pad_id_;
  std::vector<int32_t> stop_ids_;
  std::string identity_;
};

}  // namespace lewis
