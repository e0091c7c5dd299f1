#include "base/markdown.h"

#include "base/printable.h"

namespace lewis {
namespace {

bool is_letter_or_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         static_cast<unsigned char>(c) >= 0x80;
}

// Punctuation that means nothing within a line. Parentheses belong to links, whose brackets are
// escaped.
bool is_plain(char c) { return std::string_view("-./+,=@ ()").find(c) != std::string_view::npos; }

// "12." and "12)" at the front of a line begin a list.
bool ends_number(std::string_view line, size_t i) {
  const std::string_view before = line.substr(0, i);
  return (line[i] == '.' || line[i] == ')') && !before.empty() && before.back() != ' ' &&
         before.find_first_not_of(" 0123456789") == std::string_view::npos;
}

}  // namespace

// CommonMark 0.31, section 2.4: a backslash before any ASCII punctuation makes it a character.
std::string markdown_text(std::string_view text) {
  const std::string line = printable(text);
  std::string escaped;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    const bool in_word = i > 0 && i + 1 < line.size() && is_letter_or_digit(line[i - 1]) &&
                         is_letter_or_digit(line[i + 1]);
    const bool begins_block =
        (c == '-' || c == '+' || c == '=') && line.find_first_not_of(' ') == i;
    const bool ends_word = c == ':' && i + 1 < line.size() && line[i + 1] == ' ';
    const bool plain = is_letter_or_digit(c) || (c == '_' && in_word) || ends_word ||
                       (is_plain(c) && !begins_block && !ends_number(line, i));
    if (!plain) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace lewis
