// Text from files, names and templates as one line that a person can be shown: it can neither
// steer a terminal nor pretend to be other text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lewis {

struct Utf8Character {
  size_t bytes = 1;
  uint32_t code = 0;   // the code point; of a byte that is not UTF-8, the byte
  bool valid = false;  // well-formed by RFC 3629
};
// The character that begins at byte i < text.size(). A byte that begins none is a character of its
// own that is not valid.
Utf8Character utf8_character_at(std::string_view text, size_t i);

// False for code points that move the cursor, end lines, turn the direction of writing, join or
// annotate other characters unseen, or show nothing: controls, bidirectional and zero-width
// characters, line separators, fillers, tags, noncharacters (Unicode's Cc, Cf, Zl, Zp and
// Default_Ignorable_Code_Point, but for the variation selectors of emoji).
bool is_shown(uint32_t code_point);

// The text with escapes for all that is not shown: \n, \r, \t; \u{202e}; \xff for a byte that is
// not UTF-8.
std::string printable(std::string_view text);

// The same, but line feeds, also behind a carriage return, and tabs stay.
std::string printable_lines(std::string_view text);

// A JSON text with \uXXXX for all that is not shown, so that it is the same value. Line feeds
// between the values stay.
std::string printable_json(std::string_view json);

}  // namespace lewis
