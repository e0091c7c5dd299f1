#include "base/config_json.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace lewis {
namespace {

constexpr auto kInfiniteKeys = std::to_array<std::string_view>({"time_step_limit"});
constexpr auto kWords = std::to_array<std::string_view>({"Infinity", "-Infinity", "NaN"});
constexpr std::string_view kFloat = "__float__", kBare = "__bare__";

std::string marked(std::string_view word) {
  return fmt::format(R"({{"{}": "{}", "{}": true}})", kFloat, word, kBare);
}

// Goes over a text that may be any bytes, and puts objects in the place of bare words. It keeps no
// more of the structure than the keys around a word.
class WordReplacer {
 public:
  WordReplacer(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  std::string run() {
    while (at_ < text_.size()) {
      const std::string_view word = word_here();
      if (!word.empty()) {
        replace(word);
      } else if (text_[at_] == '"') {
        copy(end_of_string() - at_);
      } else {
        follow(text_[at_]);
        copy(1);
      }
    }
    return std::move(result_);
  }

 private:
  std::string_view word_here() const {
    const std::string_view rest = text_.substr(at_);
    const auto word = std::ranges::find_if(
        kWords, [&](std::string_view candidate) { return rest.starts_with(candidate); });
    return word == kWords.end() ? std::string_view() : *word;
  }

  void copy(size_t n) {
    result_ += text_.substr(at_, n);
    at_ += n;
  }

  // Behind the string that begins here, which is remembered: it may be a key.
  size_t end_of_string() {
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
    end = std::min(end + 1, text_.size());
    last_string_ = text_.substr(at_ + 1, end - at_ < 2 ? 0 : end - at_ - 2);
    return end;
  }

  void follow(char c) {
    if (c == '{' || c == '[') keys_.push_back(keys_.empty() ? std::string_view() : keys_.back());
    if ((c == '}' || c == ']') && !keys_.empty()) keys_.pop_back();
    if (c == ':' && !keys_.empty()) keys_.back() = last_string_;
  }

  void replace(std::string_view word) {
    const std::string_view key = keys_.empty() ? std::string_view() : keys_.back();
    const bool known = std::ranges::find(kInfiniteKeys, key) != kInfiniteKeys.end();
    if (!known || word == "NaN") {
      throw input_error(
          "{}: not valid JSON: key '{}' has the bare word {}, expected a number or null (Python "
          "writes such words, JSON does not have them; lewis reads infinities in {} alone)",
          where_, key, word, fmt::join(kInfiniteKeys, ", "));
    }
    result_ += marked(word);
    at_ += word.size();
  }

  std::string_view text_, where_, last_string_;
  size_t at_ = 0;
  std::vector<std::string_view> keys_;  // around this place: of each object and list its latest
  std::string result_;
};

bool is_bare(const Json& value) { return value.is_object() && value.contains(kBare); }

std::string stand_in(const std::string& word) { return "\x01" + word + "\x01"; }

// Puts strings in the place of the objects of marked(), which as JSON are "\u0001Infinity\u0001".
void put_stand_ins(Json& value) {
  if (is_bare(value) && value.contains(kFloat) && value[std::string(kFloat)].is_string()) {
    value = stand_in(value[std::string(kFloat)].get<std::string>());
    return;
  }
  if (!value.is_structured()) return;
  for (Json& part : value) put_stand_ins(part);
}

}  // namespace

Json parse_config(std::string_view text, std::string_view where) {
  const bool has_word = std::ranges::any_of(
      kWords, [&](std::string_view word) { return text.find(word) != text.npos; });
  if (!has_word) return parse_json(text, where);
  return parse_json(WordReplacer(text, where).run(), where);
}

std::string config_text(const Json& config) {
  Json copy = config;
  put_stand_ins(copy);
  std::string text = copy.dump(2) + "\n";
  for (const std::string_view word : kWords) {
    const std::string quoted = fmt::format(R"("\u0001{}\u0001")", word);
    for (size_t at = text.find(quoted); at != text.npos; at = text.find(quoted, at))
      text.replace(at, quoted.size(), word);
  }
  return text;
}

}  // namespace lewis
