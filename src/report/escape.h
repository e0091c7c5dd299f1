// Turns hostile text into text that is harmless in HTML, XML and file names.
#pragma once

#include <string>
#include <string_view>

namespace lewis {

// Escapes content and double-quoted attributes of HTML and XML, as one line: & < > " ' become
// entities, tab and newline blanks. Bytes that are not UTF-8, and characters that is_shown
// (base/printable.h) does not show, become U+FFFD.
std::string escape_markup(std::string_view text);

// The same, but tab and newline stay.
std::string escape_markup_lines(std::string_view text);

// Returns at most 60 lower-case letters, digits and single hyphens; "figure" if none is left.
std::string file_slug(std::string_view text);

}  // namespace lewis
