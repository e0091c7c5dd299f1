#include "base/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/text_file.h"

namespace lewis {
namespace {

struct CodeRange {
  uint32_t first, last;
};

// Sorted.
constexpr CodeRange kNotShown[] = {
    {0x00, 0x1f},        // C0 controls
    {0x7f, 0x9f},        // delete, C1 controls
    {0xad, 0xad},        // soft hyphen
    {0x34f, 0x34f},      // grapheme joiner
    {0x600, 0x605},      // Arabic number signs
    {0x61c, 0x61c},      // Arabic letter mark
    {0x6dd, 0x6dd},      //
    {0x70f, 0x70f},      //
    {0x890, 0x891},      //
    {0x8e2, 0x8e2},      //
    {0x115f, 0x1160},    // Hangul fillers
    {0x17b4, 0x17b5},    // Khmer vowels that show nothing
    {0x180b, 0x180f},    // Mongolian selectors
    {0x200b, 0x200f},    // zero width, marks of direction
    {0x2028, 0x202e},    // separators of lines, embeddings and overrides of direction
    {0x2060, 0x206f},    // joiners, isolates of direction
    {0x3164, 0x3164},    // Hangul filler
    {0xd800, 0xdfff},    // surrogates
    {0xfdd0, 0xfdef},    // noncharacters
    {0xfeff, 0xfeff},    // byte order mark
    {0xffa0, 0xffa0},    // Hangul filler
    {0xfff0, 0xfffb},    // annotations
    {0xfffe, 0xffff},    // noncharacters
    {0x110bd, 0x110bd},  //
    {0x110cd, 0x110cd},  //
    {0x13430, 0x1343f},  // joiners of hieroglyphs
    {0x1bca0, 0x1bca3},  // shorthand
    {0x1d173, 0x1d17a},  // music
    {0xe0000, 0xe0fff},  // tags, selectors
};

std::string escape_of(uint32_t code) {
  switch (code) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return fmt::format("\\u{{{:x}}}", code);
  }
}

std::string json_escape_of(uint32_t code) {
  if (code < 0x10000) return fmt::format("\\u{:04x}", code);
  const uint32_t rest = code - 0x10000;
  return fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
}

}  // namespace

Utf8Character utf8_character_at(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<uint32_t>(static_cast<uint8_t>(text[k])); };
  const uint32_t lead = byte(i);
  if (lead < 0x80) return {1, lead, true};
  const size_t length = lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
  if (length == 0 || length > text.size() - i || !is_utf8(text.substr(i, length)))
    return {1, lead, false};
  uint32_t code = lead & (0x7fu >> length);
  for (size_t k = 1; k < length; ++k) code = code << 6 | (byte(i + k) & 0x3fu);
  return {length, code, true};
}

bool is_shown(uint32_t code) {
  if ((code & 0xfffe) == 0xfffe || code > 0x10ffff) return false;
  const auto* after = std::ranges::upper_bound(kNotShown, code, {}, &CodeRange::first);
  return after == std::begin(kNotShown) || code > std::prev(after)->last;
}

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Character c = utf8_character_at(text, i);
    if (!c.valid) {
      result += fmt::format("\\x{:02x}", c.code);
    } else if (is_shown(c.code)) {
      result += text.substr(i, c.bytes);
    } else {
      result += escape_of(c.code);
    }
    i += c.bytes;
  }
  return result;
}

std::string printable_lines(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t end = text.find_first_of("\t\n");
    std::string_view part = text.substr(0, end);
    if (end != std::string_view::npos && text[end] == '\n' && part.ends_with('\r'))
      part.remove_suffix(1);
    result += printable(part);
    if (end == std::string_view::npos) break;
    result += text[end];
    text.remove_prefix(end + 1);
  }
  return result;
}

std::string printable_json(std::string_view json) {
  std::string result;
  result.reserve(json.size());
  for (size_t i = 0; i < json.size();) {
    const Utf8Character c = utf8_character_at(json, i);
    if (c.code == '\n' || (c.valid && is_shown(c.code))) {
      result += json.substr(i, c.bytes);
    } else {
      result += c.valid ? json_escape_of(c.code) : "\\ufffd";
    }
    i += c.bytes;
  }
  return result;
}

}  // namespace lewis
