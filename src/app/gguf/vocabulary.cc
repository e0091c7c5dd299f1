#include "app/gguf/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "app/gguf/vocabulary/pre_names.h"
#include "app/gguf/vocabulary/sentencepiece.h"
#include "app/gguf/vocabulary/special_tokens.h"
#include "base/error.h"
#include "base/json.h"

namespace lewis {
namespace {

constexpr float kAddedScore = -1000, kPadScore = -10000;
constexpr std::string_view kSpaceMark = "\u2581";
constexpr uint32_t kInt32 = 5, kFloat32 = 6;  // places in GgufValue

template <typename T>
GgufArray array_of(uint32_t type, const std::vector<T>& values) {
  GgufArray array{.type = type, .numbers = std::vector<std::byte>(values.size() * sizeof(T))};
  std::ranges::copy(std::as_bytes(std::span(values)), array.numbers.begin());
  return array;
}

// Tokens that some models call added ones but mean as control tokens, by their looks.
bool looks_special(std::string_view text) {
  constexpr std::array<std::string_view, 4> kNames = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
  const auto is_between = [&](std::string_view begin, std::string_view end) {
    return text.size() >= begin.size() + end.size() && text.starts_with(begin) &&
           text.ends_with(end);
  };
  return std::ranges::find(kNames, text) != kNames.end() || is_between("<|", "|>") ||
         is_between("<｜", "｜>") || is_between("<unused", ">");
}

std::string with_spaces(std::string text) {
  for (size_t at = text.find(kSpaceMark); at != text.npos; at = text.find(kSpaceMark, at))
    text.replace(at, kSpaceMark.size(), " ");
  return text;
}

class Vocabulary {
 public:
  Vocabulary(const ModelFiles& files, const Json& config, const GgufArchitecture& architecture,
             const VocabularyOptions& options, std::vector<std::string>& notes)
      : files_(files),
        config_(config),
        architecture_(architecture),
        options_(options),
        notes_(notes),
        tokens_(static_cast<size_t>(options.size)),
        types_(static_cast<size_t>(options.size), kUnused),
        scores_(static_cast<size_t>(options.size), kPadScore) {}

  GgufMetadata metadata() {
    GgufMetadata m;
    const Json& model = files_.member("model");
    const std::string type = model.is_object() ? model.value("type", "BPE") : "";
    const bool is_bpe = type == "BPE" && model.contains("vocab") && model.contains("merges");
    const auto bytes = files_.files.read("tokenizer.model");
    if (is_bpe && !model.value("byte_fallback", false)) {
      add_bpe(m);
    } else if (bytes || is_bpe) {
      add_sentencepiece(bytes, is_bpe, m);
    } else if (files_.tokenizer.empty()) {
      throw input_error("{}: is missing", files_.where);
    } else {
      throw files_.refuse("a tokenizer of type '" + type +
                          "', expected BPE: others are not written as GGUF yet");
    }
    const auto id_of = [&](const std::string& text) -> std::optional<int64_t> {
      const auto found = ids_.find(text);
      return found == ids_.end() ? std::nullopt : std::optional(found->second);
    };
    add_special_tokens(files_, config_, architecture_, options_.size, id_of, m);
    add_bos_of_family(m);
    add_chat_templates(files_, m);
    name_unused();
    m["tokenizer.ggml.tokens"] = GgufArray{.texts = std::move(tokens_)};
    m["tokenizer.ggml.token_type"] = array_of(kInt32, types_);
    return m;
  }

 private:
  void set_token(const std::string& text, int64_t id, TokenType type) {
    if (id < 0 || id >= options_.size) {
      throw files_.refuse(fmt::format("token {} has the id {}, the model has {} embeddings", text,
                                      id, options_.size));
    }
    tokens_[static_cast<size_t>(id)] = text;
    types_[static_cast<size_t>(id)] = type;
    ids_[text] = id;
  }

  // An id that has a token already has this one.
  void set_new_token(const std::string& text, int64_t id, TokenType type) {
    const auto at = static_cast<size_t>(id);
    if (id >= 0 && id < options_.size && types_[at] != kUnused && tokens_[at] != text)
      throw files_.refuse(fmt::format("id {} is that of {} and of {}", id, tokens_[at], text));
    set_token(text, id, type);
  }

  static TokenType type_of_added(const std::string& text, bool special) {
    return special || looks_special(text) ? kControl : kUserDefined;
  }

  // llama.cpp finds tokens of the user in the text as it is, so their spaces are spaces.
  void set_added(const std::string& text, int64_t id, TokenType type) {
    set_token(text, id, type);
    auto& stored = tokens_[static_cast<size_t>(id)];
    if (type == kUserDefined) stored = with_spaces(stored);
    scores_[static_cast<size_t>(id)] = kAddedScore;
  }

  void name_unused() {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (types_[i] == kUnused && tokens_[i].empty()) tokens_[i] = fmt::format("[PAD{}]", i);
    }
  }

  // ---- byte-level BPE ----

  void add_bpe(GgufMetadata& m) {
    for (const auto& [text, id] : files_.member("model").at("vocab").items())
      set_new_token(text, id.get<int64_t>(), kNormal);
    for (const Json& added : files_.member("added_tokens")) {
      const auto text = added.at("content").get<std::string>();
      const auto id = added.at("id").get<int64_t>();
      const TokenType type = type_of_added(text, added.value("special", false));
      set_new_token(text, id, type);
      set_added(text, id, type);
    }
    m["tokenizer.ggml.model"] = std::string("gpt2");
    m["tokenizer.ggml.pre"] = options_.pre.empty() ? pre_name() : options_.pre;
    GgufArray merges{.texts = merges_of_bpe()};
    if (!merges.texts.empty()) m["tokenizer.ggml.merges"] = std::move(merges);
    for (const Json& step : files_.steps("normalizer")) note_normalizer(step);
    const auto prefix = files_.settings.find("add_prefix_space");
    if (architecture_.neighbours && prefix != files_.settings.end() && prefix->is_boolean())
      m["tokenizer.ggml.add_space_prefix"] = prefix->get<bool>();
  }

  void note_normalizer(const Json& step) {
    notes_.push_back(fmt::format("{}: llama.cpp does not apply its normalizer {}", files_.where,
                                 step.value("type", "without a type")));
  }

  std::string pre_name() const {
    const std::string name = pre_name_of(files_);
    if (!name.empty()) return name == architecture_.rules ? std::string(architecture_.pre) : name;
    throw files_.refuse(
        fmt::format("its rules for splitting a text (pre_tokenizer) are none that lewis knows by a "
                    "name of llama.cpp ({}); --pre NAME says which they are",
                    fmt::join(known_pre_names(), ", ")));
  }

  // "a b" or ["a", "b"]; a space inside of a part would be taken for the one between both.
  std::vector<std::string> merges_of_bpe() const {
    std::vector<std::string> merges;
    for (const Json& merge : files_.member("model").at("merges")) {
      if (merge.is_string()) {
        merges.push_back(merge.get<std::string>());
        continue;
      }
      const auto left = merge.at(0).get<std::string>(), right = merge.at(1).get<std::string>();
      if (left.find(' ') != left.npos || right.find(' ') != right.npos)
        throw files_.refuse(fmt::format("the merge of '{}' and '{}' holds a space", left, right));
      merges.push_back(left + " " + right);
    }
    return merges;
  }

  // ---- SentencePiece ----

  // Whether tokenizer.json, which transformers reads, has these pieces.
  bool agrees(const SentencePieces& model) const {
    for (const auto& [text, id] : files_.member("model").at("vocab").items()) {
      const auto at = id.get<size_t>();
      if (at < model.pieces.size() && model.pieces[at].text != text) return false;
    }
    return true;
  }

  SentencePieces read_pieces(const std::optional<std::string>& bytes, bool has_json) {
    if (bytes) {
      const std::string file = files_.files.path_of("tokenizer.model");
      SentencePieces model = read_sentencepiece(*bytes, file);
      if (!has_json || agrees(model)) return model;
      notes_.push_back(fmt::format("{}: differs from {}, which counts", file, files_.where));
    }
    for (const Json& step : files_.steps("normalizer")) {
      const std::string type = step.value("type", "");
      const bool of_spaces = type == "Replace" && step.value("content", "") == kSpaceMark &&
                             step.value("pattern", Json()).value("String", "") == " ";
      if (type != "Prepend" && !of_spaces) note_normalizer(step);
    }
    return sentencepieces_of(files_, notes_);
  }

  void add_sentencepiece(const std::optional<std::string>& bytes, bool has_json, GgufMetadata& m) {
    const SentencePieces model = read_pieces(bytes, has_json);
    for (size_t i = 0; i < model.pieces.size(); ++i) {
      const VocabularyPiece& piece = model.pieces[i];
      set_token(piece.text, static_cast<int64_t>(i), piece.type);
      scores_[i] = piece.score;
    }
    add_added_pieces(static_cast<int64_t>(model.pieces.size()));
    m["tokenizer.ggml.model"] = std::string("llama");
    m["tokenizer.ggml.pre"] = std::string("default");
    m["tokenizer.ggml.scores"] = array_of(kFloat32, scores_);
    const auto said = files_.settings.find("add_prefix_space");
    const bool says = said != files_.settings.end() && said->is_boolean();
    const bool prefix = says ? said->get<bool>() : model.space_prefix;
    if (!prefix || (says && architecture_.neighbours))
      m["tokenizer.ggml.add_space_prefix"] = prefix;
  }

  // added_tokens.json, then added_tokens_decoder of tokenizer_config.json; tokenizer.json has the
  // last word on ids that neither names and the vocabulary does not have.
  void add_added_pieces(int64_t pieces) {
    std::set<int64_t> named;
    if (const auto text = files_.files.read("added_tokens.json")) {
      const Json tokens = parse_json(*text, files_.files.path_of("added_tokens.json"));
      for (const auto& [token, id] : tokens.items())
        set_added_piece(token, id.get<int64_t>(), kUserDefined, named);
    }
    const auto decoder = files_.settings.find("added_tokens_decoder");
    const bool has_decoder = decoder != files_.settings.end() && decoder->is_object();
    if (has_decoder) {
      for (const auto& [id, token] : decoder->items()) {
        const auto text = token.at("content").get<std::string>();
        set_added_piece(text, id_of_key(id), type_of_added(text, token.value("special", false)),
                        named);
      }
    }
    for (const Json& token : files_.member("added_tokens")) {
      const auto id = token.at("id").get<int64_t>();
      if (named.contains(id) || (has_decoder && id < pieces)) continue;
      const auto text = token.at("content").get<std::string>();
      const TokenType type = type_of_added(text, token.value("special", false));
      if (id < pieces && types_[static_cast<size_t>(id)] != kNormal) continue;
      set_added_piece(text, id, type, named);
    }
  }

  void set_added_piece(const std::string& text, int64_t id, TokenType type,
                       std::set<int64_t>& named) {
    set_added(text, id, type);
    named.insert(id);
  }

  int64_t id_of_key(const std::string& key) const {
    if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != key.npos) {
      throw input_error("{}: added_tokens_decoder has the key '{}', expected an id",
                        files_.files.path_of("tokenizer_config.json"), key);
    }
    return std::stoll(key);
  }

  // Where nothing says that a token begins every text, none does: llama.cpp would go by the name of
  // the rules. Of Llamas with 49152 tokens (Granite's and SmolLM's) none does in any case.
  void add_bos_of_family(GgufMetadata& m) const {
    constexpr const char* kKey = "tokenizer.ggml.add_bos_token";
    if (architecture_.neighbours && options_.size == 49152) m[kKey] = false;
    if (std::get<std::string>(m.at("tokenizer.ggml.model")) == "gpt2") m.try_emplace(kKey, false);
  }

  const TokenizerFiles files_;
  const Json& config_;
  const GgufArchitecture& architecture_;
  const VocabularyOptions& options_;
  std::vector<std::string>& notes_;
  std::vector<std::string> tokens_;
  std::vector<int32_t> types_;
  std::vector<float> scores_;
  std::map<std::string, int64_t> ids_;
};

}  // namespace

GgufMetadata gguf_vocabulary(const ModelFiles& files, const Json& config,
                             const GgufArchitecture& architecture, const VocabularyOptions& options,
                             std::vector<std::string>& notes) {
  try {
    return Vocabulary(files, config, architecture, options, notes).metadata();
  } catch (const Json::exception& e) {
    throw input_error("{}: not as expected: {}", files.path_of("tokenizer.json"), e.what());
  }
}

}  // namespace lewis
