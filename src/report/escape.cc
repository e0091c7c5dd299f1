#include "report/escape.h"

#include <algorithm>
#include <cctype>

#include "base/printable.h"

namespace lewis {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

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

std::string escape_markup_lines(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Character c = utf8_character_at(text, i);
    if (!c.valid || (!is_shown(c.code) && c.code != '\t' && c.code != '\n')) {
      escaped += kReplacement;
    } else if (const auto entity = entity_of(text[i]); !entity.empty()) {
      escaped += entity;
    } else {
      escaped += text.substr(i, c.bytes);
    }
    i += c.bytes;
  }
  return escaped;
}

std::string escape_markup(std::string_view text) {
  std::string escaped = escape_markup_lines(text);
  std::ranges::replace_if(
      escaped, [](char c) { return c == '\t' || c == '\n'; }, ' ');
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
