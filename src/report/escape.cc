#include "report/escape.h"

#include <cctype>
#include <cstdint>

#include "base/text_file.h"

namespace lewis {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// The number of bytes of the well-formed UTF-8 character at the beginning of `text`, or 0.
size_t character_length(std::string_view text) {
  for (size_t n = 1; n <= 4 && n <= text.size(); ++n) {
    if (is_utf8(text.substr(0, n))) return n;
  }
  return 0;
}

bool is_control(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1)
    return (byte(0) < 0x20 && byte(0) != '\t' && byte(0) != '\n') || byte(0) == 0x7f;
  if (character.size() == 2) return byte(0) == 0xc2 && byte(1) < 0xa0;
  if (character.size() == 4) return false;
  const uint32_t code = (byte(0) & 0xfu) << 12 | (byte(1) & 0x3fu) << 6 | (byte(2) & 0x3fu);
  const bool turns = (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
                     code == 0x200e || code == 0x200f;
  return turns || code == 0xfffe || code == 0xffff;  // XML excludes the last two
}

std::string_view entity_of(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    default:
      return "";
  }
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    const size_t n = character_length(text);
    const std::string_view character = text.substr(0, n);
    if (n == 0 || is_control(character)) {
      escaped += kReplacement;
    } else if (const auto entity = entity_of(text[0]); n == 1 && !entity.empty()) {
      escaped += entity;
    } else {
      escaped += character;
    }
    text.remove_prefix(n == 0 ? 1 : n);
  }
  return escaped;
}

std::string file_slug(std::string_view text) {
  std::string slug;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && std::isalnum(byte)) {
      slug += static_cast<char>(std::tolower(byte));
    } else if (!slug.empty() && slug.back() != '-') {
      slug += '-';
    }
    if (slug.size() == 60) break;
  }
  while (slug.ends_with('-')) slug.pop_back();
  return slug.empty() ? "figure" : slug;
}

}  // namespace lewis
