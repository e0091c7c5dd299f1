#include "yaml/scalars.h"

#include <algorithm>
#include <initializer_list>
#include <string>

namespace lewis {
namespace {

constexpr std::string_view kDigits = "0123456789";

bool all_of(std::string_view text, std::string_view characters) {
  return !text.empty() && text.find_first_not_of(characters) == std::string_view::npos;
}

bool has(std::string_view text, char c) { return text.find(c) != std::string_view::npos; }

// "yes", "Yes" and "YES", but not "yEs".
bool is_word(std::string_view text, std::initializer_list<std::string_view> words) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  const auto is_lower = [&](char c) { return c == lower(c); };
  std::string word(text);
  std::transform(word.begin(), word.end(), word.begin(), lower);
  if (std::find(words.begin(), words.end(), word) == words.end()) return false;
  const bool tail_lower = std::all_of(text.begin() + 1, text.end(), is_lower);
  return tail_lower || std::none_of(text.begin(), text.end(), is_lower);
}

// "1:30": YAML 1.1 reads digits to the base 60.
bool is_sexagesimal(std::string_view text) {
  return has(text, ':') && text.front() != ':' && text.back() != ':' &&
         all_of(text, "0123456789_:.");
}

// "2024-01-31" or "2024-1-31", also with a time behind it.
bool is_date(std::string_view text) {
  if (text.size() < 8 || !all_of(text.substr(0, 4), kDigits) || text[4] != '-') return false;
  const size_t dash = text.find('-', 5);
  return (dash == 6 || dash == 7) && all_of(text.substr(5, dash - 5), kDigits) &&
         all_of(text.substr(dash + 1, 1), kDigits);
}

bool is_hexadecimal(std::string_view text) {
  return text.starts_with("0x") && all_of(text.substr(2), "0123456789abcdefABCDEF_");
}

// Digits with underscores between them, as YAML 1.1 writes thousands.
bool is_grouped(std::string_view text) {
  return has(text, '_') && text.front() != '_' &&
         (all_of(text, "0123456789_.") || is_hexadecimal(text));
}

// "1e4" and "1.5e4": in YAML 1.1 a number with an exponent has a point and the exponent a sign.
bool is_exponent_of_1_2(std::string_view text) {
  const size_t e = text.find_first_of("eE");
  if (e == std::string_view::npos || !is_decimal(text)) return false;
  return text.find('.') > e || text.find_first_of("+-", e) != e + 1;
}

}  // namespace

bool is_null_word(std::string_view plain) {
  return plain.empty() || plain == "~" || is_word(plain, {"null"});
}

std::optional<bool> boolean_word(std::string_view plain) {
  if (plain.empty()) return std::nullopt;
  if (is_word(plain, {"true"})) return true;
  if (is_word(plain, {"false"})) return false;
  return std::nullopt;
}

// [+-] digits [. digits] [e [+-] digits], with at least one digit before the exponent.
bool is_decimal(std::string_view s) {
  const auto digits = [&s] {
    const size_t n = std::min(s.find_first_not_of("0123456789"), s.size());
    s.remove_prefix(n);
    return n;
  };
  if (s.starts_with('+') || s.starts_with('-')) s.remove_prefix(1);
  const bool leading_zero = s.starts_with('0');
  const size_t whole = digits();
  if (s.empty()) return whole == 1 || (whole > 1 && !leading_zero);
  size_t fraction = 0;
  if (s.starts_with('.')) {
    s.remove_prefix(1);
    fraction = digits();
  }
  if (whole + fraction == 0) return false;
  if (s.starts_with('e') || s.starts_with('E')) {
    s.remove_prefix(1);
    if (s.starts_with('+') || s.starts_with('-')) s.remove_prefix(1);
    if (digits() == 0) return false;
  }
  return s.empty();
}

std::string_view yaml_disagreement(std::string_view plain) {
  if (plain.empty()) return "";
  if (is_word(plain, {"yes", "no", "on", "off", "y", "n"}))
    return "is a boolean in YAML 1.1 and a text in YAML 1.2";
  std::string_view text = plain;
  if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
  if (text.size() > 1 && text.front() == '0' && all_of(text, "0123456789_"))
    return "is octal or a text in YAML 1.1 and decimal in YAML 1.2";
  if (text.starts_with("0o") && all_of(text.substr(2), "01234567"))
    return "is a text in YAML 1.1 and octal in YAML 1.2";
  if (text.starts_with("0b") && all_of(text.substr(2), "01_"))
    return "is binary in YAML 1.1 and a text in YAML 1.2";
  if (text.empty()) return "";
  if (is_grouped(text)) return "is a number in YAML 1.1 and a text in YAML 1.2";
  if (is_sexagesimal(text)) return "is to the base 60 in YAML 1.1 and a text in YAML 1.2";
  if (is_date(text)) return "is a date in YAML 1.1 and a text in YAML 1.2";
  if (is_exponent_of_1_2(text)) return "is a text in YAML 1.1 and a number in YAML 1.2";
  return "";
}

}  // namespace lewis
