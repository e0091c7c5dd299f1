#include "app/gguf/import_tokenizer.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "app/gguf/vocabulary/pre_names.h"
#include "app/gguf/vocabulary/sentencepiece.h"
#include "base/error.h"
#include "base/json.h"
#include "base/printable.h"

namespace lewis {
namespace {

constexpr std::string_view kKeys = "tokenizer.ggml.";

// Names that mean the same rules as another, for llama.cpp (llama-vocab.cpp).
struct OtherName {
  std::string_view name, same_as;
};
constexpr std::array<OtherName, 21> kOtherNames = {
    {{"llama3", "llama-bpe"},  {"llama-v3", "llama-bpe"},
     {"falcon3", "llama-bpe"}, {"falcon-h1", "llama-bpe"},
     {"pixtral", "llama-bpe"}, {"lfm2", "llama-bpe"},
     {"smaug-bpe", "dbrx"},    {"deepseek-r1-qwen", "qwen2"},
     {"stablelm2", "qwen2"},   {"hunyuan", "qwen2"},
     {"llama4", "gpt-4o"},     {"phi-2", "gpt-2"},
     {"mpt", "gpt-2"},         {"olmo", "gpt-2"},
     {"jais", "gpt-2"},        {"starcoder", "smollm"},
     {"refact", "smollm"},     {"command-r", "smollm"},
     {"codeshell", "smollm"},  {"exaone", "smollm"},
     {"minerva-7b", "smollm"}}};
// Rules of tokenizers that have a normaliser, for which GGUF has no place.
constexpr std::array<std::string_view, 2> kComposed = {"qwen2", "qwen35"};

class TokenizerMaker {
 public:
  TokenizerMaker(const GgufKeys& keys, int64_t vocabulary) : keys_(keys), vocabulary_(vocabulary) {}

  ImportedTokenizer run() {
    const auto kind = keys_.find_text("tokenizer.ggml.model");
    if (!kind) return without("it has no tokenizer");
    if (*kind != "gpt2" && *kind != "llama") {
      return without(fmt::format("its tokenizer is of the kind '{}', gpt2 and llama are read",
                                 printable(*kind)));
    }
    pre_ = keys_.find_text("tokenizer.ggml.pre").value_or("");
    const bool of_bytes = *kind == "gpt2";
    std::optional<RulesOfName> rules;
    if (of_bytes && !(rules = rules_named(same_rules()))) {
      return without(fmt::format(
          "its rules for splitting a text go by the name '{}' (tokenizer.ggml.pre), which is not "
          "known here",
          printable(pre_)));
    }
    read_tokens();
    json_ = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    json_["added_tokens"] = added_tokens();
    of_bytes ? add_bpe_of_bytes(*rules) : add_sentence_pieces();
    return {{{"tokenizer.json", json_.dump()}, {"tokenizer_config.json", config().dump(2) + "\n"}},
            {}};
  }

 private:
  ImportedTokenizer without(const std::string& why) const {
    return {{}, {fmt::format("{}: {}: there is no tokenizer", keys_.where(), why)}};
  }

  Error refuse(std::string_view key, const std::string& what) const {
    return input_error("{}: key '{}{}': {}", keys_.where(), kKeys, key, what);
  }

  std::string same_rules() const {
    const auto other = std::ranges::find(kOtherNames, pre_, &OtherName::name);
    return other == kOtherNames.end() ? pre_ : std::string(other->same_as);
  }

  // ---- tokens ----

  void read_tokens() {
    const auto* tokens = keys_.find_texts("tokenizer.ggml.tokens");
    if (!tokens) throw refuse("tokens", "is missing");
    if (static_cast<int64_t>(tokens->size()) > vocabulary_) {
      throw refuse("tokens", fmt::format("{} tokens, the model has {} embeddings", tokens->size(),
                                         vocabulary_));
    }
    tokens_ = tokens;
    types_ = keys_.find_integers("tokenizer.ggml.token_type")
                 .value_or(std::vector<int32_t>(tokens->size(), kNormal));
    if (types_.size() != tokens->size()) {
      throw refuse("token_type",
                   fmt::format("{} types for {} tokens", types_.size(), tokens->size()));
    }
    ids_.reserve(tokens->size());
    for (size_t i = 0; i < types_.size(); ++i) {
      if (types_[i] < kNormal || types_[i] > kByte)
        throw refuse("token_type", fmt::format("token {} has the type {}", i, types_[i]));
      if (types_[i] == kUnused) continue;
      const auto [known, is_new] = ids_.emplace((*tokens)[i], i);
      if (!is_new) {
        throw refuse("tokens", fmt::format("'{}' has the ids {} and {}", printable((*tokens)[i]),
                                           known->second, i));
      }
    }
  }

  // Control tokens belong to the vocabulary as well, so that they keep their ids.
  Json vocabulary() const {
    Json vocabulary = Json::object();
    for (size_t i = 0; i < types_.size(); ++i) {
      if (types_[i] != kUnused) vocabulary[(*tokens_)[i]] = i;
    }
    return vocabulary;
  }

  Json added_tokens() const {
    Json added = Json::array();
    for (size_t i = 0; i < types_.size(); ++i) {
      if (types_[i] != kControl && types_[i] != kUserDefined && types_[i] != kUnknown) continue;
      added.push_back({{"id", i},
                       {"content", (*tokens_)[i]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", types_[i] != kUserDefined}});
    }
    return added;
  }

  // The token of a special id; nothing where the file names none.
  std::optional<std::string> special(std::string_view name) const {
    const auto id = keys_.find_count(fmt::format("{}{}_token_id", kKeys, name));
    if (!id) return std::nullopt;
    if (*id >= static_cast<int64_t>(tokens_->size())) {
      throw refuse(fmt::format("{}_token_id", name),
                   fmt::format("{}, there are {} tokens", *id, tokens_->size()));
    }
    return (*tokens_)[static_cast<size_t>(*id)];
  }

  bool adds(std::string_view name, bool otherwise) const {
    const auto said = keys_.find_flag(fmt::format("{}add_{}_token", kKeys, name));
    return said.value_or(otherwise) && special(name);
  }
  // Where the file does not say it, llama.cpp puts the token for the beginning before a text of
  // SentencePiece's tokenizers and of Llama 3's.
  bool adds_bos() const { return adds("bos", !is_bytes_ || same_rules() == "llama-bpe"); }

  // A template with the tokens for the beginning and the end of a text, where they are added.
  Json post_processor() const {
    const bool bos = adds_bos(), eos = adds("eos", false);
    if (!bos && !eos) return nullptr;
    Json single = Json::array(), pair = Json::array(), tokens = Json::object();
    const auto add = [&](std::string_view name, int type) {
      const std::string text = *special(name);
      const Json step = {{"SpecialToken", {{"id", text}, {"type_id", type}}}};
      if (type == 0) single.push_back(step);
      pair.push_back(step);
      tokens[text] = {{"id", text},
                      {"ids", Json::array({ids_.contains(text) ? ids_.at(text) : 0})},
                      {"tokens", Json::array({text})}};
    };
    for (const int type : {0, 1}) {
      const Json text = {{"Sequence", {{"id", type == 0 ? "A" : "B"}, {"type_id", type}}}};
      if (bos) add("bos", type);
      if (type == 0) single.push_back(text);
      pair.push_back(text);
      if (eos) add("eos", type);
    }
    return {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", pair},
            {"special_tokens", tokens}};
  }

  static Json bpe(Json vocabulary, Json merges, bool byte_fallback, Json unknown) {
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", std::move(unknown)},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", byte_fallback},
            {"byte_fallback", byte_fallback},
            {"ignore_merges", false},
            {"vocab", std::move(vocabulary)},
            {"merges", std::move(merges)}};
  }

  // ---- byte-level BPE ----

  void add_bpe_of_bytes(const RulesOfName& rules) {
    json_["normalizer"] = std::ranges::find(kComposed, same_rules()) != kComposed.end()
                              ? Json{{"type", "NFC"}}
                              : Json();
    json_["pre_tokenizer"] = rules.pre_tokenizer;
    json_["post_processor"] = post_processor();
    json_["decoder"] = {{"type", "ByteLevel"},
                        {"add_prefix_space", true},
                        {"trim_offsets", true},
                        {"use_regex", true}};
    const auto* merges = keys_.find_texts("tokenizer.ggml.merges");
    if (!merges) throw refuse("merges", "is missing");
    Json pairs = Json::array();
    for (const std::string& merge : *merges) {
      const size_t space = merge.find(' ');
      if (space == merge.npos || space == 0 || space + 1 == merge.size() ||
          merge.find(' ', space + 1) != merge.npos) {
        throw refuse("merges", fmt::format("'{}' is no pair of two tokens", printable(merge)));
      }
      pairs.push_back(Json::array({merge.substr(0, space), merge.substr(space + 1)}));
    }
    json_["model"] = bpe(vocabulary(), std::move(pairs), false, nullptr);
    json_["model"]["ignore_merges"] = rules.ignore_merges;
  }

  // ---- SentencePiece ----

  // All pairs of tokens that make a token, best score first; among equals those of longer parts, as
  // transformers has them.
  Json merges_of_scores() const {
    const auto scores = keys_.find_floats("tokenizer.ggml.scores");
    if (!scores) throw refuse("scores", "is missing");
    if (scores->size() != types_.size()) {
      throw refuse("scores", fmt::format("{} scores for {} tokens", scores->size(), types_.size()));
    }
    struct Merge {
      float score;
      size_t token, left;  // left: bytes of the first part
    };
    std::vector<Merge> merges;
    for (size_t i = 0; i < types_.size(); ++i) {
      if (types_[i] != kNormal) continue;
      const std::string_view token = (*tokens_)[i];
      for (size_t at = 1; at < token.size(); ++at) {
        if ((static_cast<unsigned char>(token[at]) & 0xC0) == 0x80) continue;  // within a character
        if (is_part(token.substr(0, at)) && is_part(token.substr(at)))
          merges.push_back({(*scores)[i], i, at});
      }
    }
    std::ranges::stable_sort(merges, [&](const Merge& a, const Merge& b) {
      return std::tuple(b.score, b.left, (*tokens_)[b.token].size() - b.left) <
             std::tuple(a.score, a.left, (*tokens_)[a.token].size() - a.left);
    });
    Json pairs = Json::array();
    for (const Merge& m : merges) {
      const std::string& token = (*tokens_)[m.token];
      pairs.push_back(Json::array({token.substr(0, m.left), token.substr(m.left)}));
    }
    return pairs;
  }

  bool is_part(std::string_view text) const {
    const auto found = ids_.find(std::string(text));
    return found != ids_.end() && types_[found->second] == kNormal;
  }

  void add_sentence_pieces() {
    is_bytes_ = false;
    const bool prefix = keys_.find_flag("tokenizer.ggml.add_space_prefix").value_or(true);
    const std::string space = "\u2581";
    Json steps = Json::array();
    if (prefix) steps.push_back({{"type", "Prepend"}, {"prepend", space}});
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}});
    json_["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
    json_["pre_tokenizer"] = nullptr;
    json_["post_processor"] = post_processor();
    Json back =
        Json::array({{{"type", "Replace"}, {"pattern", {{"String", space}}}, {"content", " "}},
                     {{"type", "ByteFallback"}},
                     {{"type", "Fuse"}}});
    if (prefix) back.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    json_["decoder"] = {{"type", "Sequence"}, {"decoders", back}};
    const auto unknown = special("unknown");
    json_["model"] = bpe(vocabulary(), merges_of_scores(), true, unknown ? Json(*unknown) : Json());
  }

  // ---- tokenizer_config.json ----

  Json templates() const {
    const auto main = keys_.find_text("tokenizer.chat_template");
    const auto* names = keys_.find_texts("tokenizer.chat_templates");
    if (!names) return main ? Json(*main) : Json();
    Json all = Json::array();
    if (main) all.push_back({{"name", "default"}, {"template", *main}});
    for (const std::string& name : *names) {
      if (const auto text = keys_.find_text("tokenizer.chat_template." + name))
        all.push_back({{"name", name}, {"template", *text}});
    }
    return all;
  }

  Json config() const {
    static constexpr std::array<std::pair<const char*, std::string_view>, 4> kSpecial = {
        {{"bos_token", "bos"},
         {"eos_token", "eos"},
         {"unk_token", "unknown"},
         {"pad_token", "padding"}}};
    Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
    for (const auto& [key, name] : kSpecial) {
      const auto token = special(name);
      config[key] = token ? Json(*token) : Json();
    }
    config["add_bos_token"] = adds_bos();
    config["add_eos_token"] = adds("eos", false);
    config["clean_up_tokenization_spaces"] = false;
    config["model_max_length"] = keys_.count("context_length");
    if (const Json text = templates(); !text.is_null()) config["chat_template"] = text;
    return config;
  }

  const GgufKeys& keys_;
  int64_t vocabulary_;
  std::string pre_;
  bool is_bytes_ = true;
  const std::vector<std::string>* tokens_ = nullptr;
  std::vector<int32_t> types_;
  std::unordered_map<std::string, size_t> ids_;  // without unused ones
  Json json_;
};

}  // namespace

ImportedTokenizer import_tokenizer(const GgufKeys& keys, int64_t vocabulary) {
  return TokenizerMaker(keys, vocabulary).run();
}

}  // namespace lewis
