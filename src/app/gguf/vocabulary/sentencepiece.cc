#include "app/gguf/vocabulary/sentencepiece.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>

namespace lewis {
namespace {

// The fields of a message of Protocol Buffers, one after the other. Every length is checked against
// the bytes that are left.
class Fields {
 public:
  Fields(std::string_view bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  uint64_t number = 0;      // of the field
  uint64_t value = 0;       // of a field of the kinds 0 (whole number), 1 and 5 (fixed width)
  std::string_view inside;  // of a field of kind 2

  // Reads the next field; false at the end.
  bool next() {
    if (bytes_.empty()) return false;
    const uint64_t tag = varint();
    number = tag >> 3;
    const uint64_t kind = tag & 7;
    if (number == 0) throw broken();
    inside = {};
    if (kind == 0) {
      value = varint();
    } else if (kind == 1) {
      value = fixed<uint64_t>();
    } else if (kind == 5) {
      value = fixed<uint32_t>();
    } else if (kind == 2) {
      inside = take(varint());
    } else {
      throw broken();
    }
    return true;
  }

 private:
  Error broken() const { return input_error("{}: is no model of SentencePiece", file_); }

  std::string_view take(uint64_t count) {
    if (count > bytes_.size()) throw broken();
    const std::string_view taken = bytes_.substr(0, static_cast<size_t>(count));
    bytes_.remove_prefix(taken.size());
    return taken;
  }

  template <typename T>
  T fixed() {
    T bits;
    std::memcpy(&bits, take(sizeof(T)).data(), sizeof(T));
    return bits;
  }

  uint64_t varint() {
    uint64_t x = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      x |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return x;
    }
    throw broken();
  }

  std::string_view bytes_;
  const std::string& file_;
};

VocabularyPiece read_piece(std::string_view bytes, const std::string& file) {
  VocabularyPiece piece;
  for (Fields f(bytes, file); f.next();) {
    if (f.number == 1) piece.text = f.inside;
    if (f.number == 2) piece.score = std::bit_cast<float>(static_cast<uint32_t>(f.value));
    if (f.number != 3) continue;
    if (f.value < kNormal || f.value > kByte)
      throw input_error("{}: piece '{}' has the type {}, expected 1 to 6", file, piece.text,
                        f.value);
    piece.type = static_cast<TokenType>(f.value);
  }
  return piece;
}

// "<0x0A>" as byte_fallback has it.
bool is_byte(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEFabcdef";
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with(">") &&
         kHex.find(text[3]) != kHex.npos && kHex.find(text[4]) != kHex.npos;
}

// Whether a text gets a space at its begin.
bool prepends_space(const TokenizerFiles& files) {
  for (const Json& step : files.steps("normalizer")) {
    if (step.value("type", "") == "Prepend") return true;
  }
  for (const Json& step : files.steps("pre_tokenizer")) {
    if (step.value("type", "") != "Metaspace") continue;
    return step.value("prepend_scheme", "always") != "never" &&
           step.value("add_prefix_space", true);
  }
  return false;
}

std::string merged(const Json& merge) {
  if (merge.is_array()) return merge.at(0).get<std::string>() + merge.at(1).get<std::string>();
  std::string both = merge.get<std::string>();
  if (const size_t space = both.find(' '); space != both.npos) both.erase(space, 1);
  return both;
}

}  // namespace

SentencePieces read_sentencepiece(std::string_view bytes, const std::string& file) {
  constexpr uint64_t kBpe = 2;
  SentencePieces model;
  uint64_t kind = 1;  // Unigram
  for (Fields f(bytes, file); f.next();) {
    if (f.number == 1) model.pieces.push_back(read_piece(f.inside, file));
    if (f.number == 2) {
      for (Fields trainer(f.inside, file); trainer.next();) {
        if (trainer.number == 3) kind = trainer.value;
      }
    }
    if (f.number == 3) {
      for (Fields normalizer(f.inside, file); normalizer.next();) {
        if (normalizer.number == 3) model.space_prefix = normalizer.value != 0;
      }
    }
  }
  if (model.pieces.empty()) throw input_error("{}: is no model of SentencePiece", file);
  if (kind != kBpe) {
    throw input_error(
        "{}: a model of the kind {} of SentencePiece, expected {} (BPE): others are "
        "not written as GGUF yet",
        file, kind, kBpe);
  }
  return model;
}

SentencePieces sentencepieces_of(const TokenizerFiles& files, std::vector<std::string>& notes) {
  const Json& model = files.member("model");
  // llama.cpp joins the pair whose token has the best score, BPE the pair of the first merge: the
  // order of tokens by their first merges is that of scores, if merges of a token follow each
  // other.
  std::unordered_map<std::string, size_t> order;
  size_t torn = 0;
  std::string before;
  for (const Json& merge : model.at("merges")) {
    std::string token = merged(merge);
    const bool is_new = order.try_emplace(token, order.size()).second;
    if (!is_new && token != before) ++torn;
    before = std::move(token);
  }
  if (torn > 0) {
    notes.push_back(fmt::format(
        "{}: {} merges make a token that an earlier one makes, not one after the other: llama.cpp, "
        "which goes by one score per token, may split some texts otherwise",
        files.where, torn));
  }
  const std::string unknown =
      model.value("unk_token", Json()).is_string() ? model["unk_token"].get<std::string>() : "";
  SentencePieces made;
  made.space_prefix = prepends_space(files);
  size_t single = order.size();  // tokens without a merge come last, by their ids
  std::vector<std::pair<int64_t, std::string>> by_id;
  for (const auto& [text, id] : model.at("vocab").items())
    by_id.emplace_back(id.get<int64_t>(), text);
  std::ranges::sort(by_id);
  for (const auto& [id, text] : by_id) {
    if (id != static_cast<int64_t>(made.pieces.size()))
      throw files.refuse(
          fmt::format("no token of the vocabulary has the id {}", made.pieces.size()));
    const auto merge = order.find(text);
    VocabularyPiece piece{text, 0, is_byte(text) ? kByte : text == unknown ? kUnknown : kNormal};
    if (piece.type == kNormal)
      piece.score = -static_cast<float>(merge != order.end() ? merge->second : single++);
    made.pieces.push_back(std::move(piece));
  }
  return made;
}

}  // namespace lewis
