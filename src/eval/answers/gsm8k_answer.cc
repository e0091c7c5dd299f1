#include "eval/answers/gsm8k_answer.h"

#include <algorithm>

namespace lewis {
namespace {

constexpr std::string_view kMark = "#### ";
constexpr std::string_view kInvalid = "[invalid]";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool in_number(char c) { return is_digit(c) || c == '.' || c == ','; }
bool in_price(char c) { return in_number(c) || c == '$'; }

// Length of the run of characters of a class that begins at `from`.
template <typename Class>
size_t run_length(std::string_view text, size_t from, Class in_class) {
  size_t end = from;
  while (end < text.size() && in_class(text[end])) ++end;
  return end - from;
}

// Length of the match of the flexible expression at `from`; 0: none.
size_t match_flexible(std::string_view text, size_t from) {
  const size_t sign = text[from] == '-' ? 1 : 0;
  if (const size_t n = run_length(text, from + sign, in_price); n >= 2) return sign + n;
  if (const size_t n = run_length(text, from + sign, is_digit); n >= 1) return sign + n;
  return 0;
}

}  // namespace

std::string cut_at_stops(std::string text, std::span<const std::string> stops) {
  for (const std::string& stop : stops) {
    if (!stop.empty()) text.resize(std::min(text.size(), text.find(stop)));
  }
  return text;
}

std::string extract_strict(std::string_view text) {
  for (size_t at = text.find(kMark); at != text.npos; at = text.find(kMark, at + 1)) {
    const size_t begin = at + kMark.size();
    const size_t sign = begin < text.size() && text[begin] == '-' ? 1 : 0;
    const size_t n = run_length(text, begin + sign, in_number);
    if (n > 0) return std::string(text.substr(begin, sign + n));
  }
  return std::string(kInvalid);
}

std::string extract_chain(std::string_view text) {
  constexpr std::string_view kWords = "The answer is ";
  for (size_t at = text.find(kWords); at != text.npos; at = text.find(kWords, at + 1)) {
    const size_t begin = at + kWords.size();
    const size_t sign = begin < text.size() && text[begin] == '-' ? 1 : 0;
    const size_t n = run_length(text, begin + sign, in_number);
    // One more character, of any kind but a line's end, must follow: else the number gives its
    // last.
    const size_t end = begin + sign + n;
    const bool gives = end == text.size() || text[end] == '\n';
    if (n > (gives ? 1 : 0)) return std::string(text.substr(begin, sign + n - (gives ? 1 : 0)));
  }
  return std::string(kInvalid);
}

std::string extract_flexible(std::string_view text) {
  std::string_view last = kInvalid;
  for (size_t at = 0; at < text.size();) {
    const size_t n = match_flexible(text, at);
    if (n > 0) last = text.substr(at, n);
    at += std::max<size_t>(n, 1);
  }
  return std::string(last);
}

std::string normalize_answer(std::string_view text) {
  std::string result(text);
  std::erase(result, ',');
  std::erase(result, '$');
  if (const size_t mark = result.rfind(kMark); mark != result.npos) {
    result.erase(0, mark + kMark.size());
  }
  // `\.$`: Python's $ also matches before a newline that ends the text.
  const size_t end = result.size() - (result.ends_with('\n') ? 1 : 0);
  if (end > 0 && result[end - 1] == '.') result.erase(end - 1, 1);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

}  // namespace lewis
