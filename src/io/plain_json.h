// A quick reader of the JSON that programs write: strings without escapes, natural numbers, nothing
// unusual. It never decides that a text is wrong. Where it does not go on, the caller has the
// strict parser (base/json.h) read the text, which takes ten times as long and says what is wrong.
// Headers and indexes of models have hundreds of thousands of names.
#pragma once

#include <charconv>
#include <cstdint>
#include <string_view>

namespace lewis {

class PlainJson {
 public:
  // `text` must be UTF-8.
  explicit PlainJson(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  // Each skips white space and returns false, at an unknown place, if something else comes.
  bool take(char c) {
    skip_space();
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  bool string(std::string_view& text) {
    if (!take('"')) return false;
    const char* begin = at_;
    while (at_ != end_ && *at_ != '"' && *at_ != '\\' && static_cast<unsigned char>(*at_) >= 0x20)
      ++at_;
    if (at_ == end_ || *at_ != '"') return false;
    text = {begin, static_cast<size_t>(at_ - begin)};
    ++at_;
    return true;
  }
  // A name and the colon behind it.
  bool key(std::string_view& text) { return string(text) && take(':'); }
  bool key_is(std::string_view expected) {
    std::string_view found;
    return key(found) && found == expected;
  }
  bool natural(uint64_t& number) {
    skip_space();
    const char* begin = at_;
    const auto [stop, error] = std::from_chars(at_, end_, number);
    at_ = stop;
    return error == std::errc() && (*begin != '0' || stop == begin + 1);
  }
  bool is_at_end() {
    skip_space();
    return at_ == end_;
  }

 private:
  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  const char *at_, *end_;
};

}  // namespace lewis
