// Hostile text -> text that HTML, XML and file names take as text.
#pragma once

#include <string>
#include <string_view>

namespace lewis {

// For content and for attributes in double quotes, in HTML and in XML: & < > " ' become entities;
// bytes that are no UTF-8, control characters but tab and newline, and characters that turn the
// direction of writing around become U+FFFD.
std::string escape_markup(std::string_view text);

// Lower-case letters, digits and single hyphens; at most 60. "figure" if nothing is left.
std::string file_slug(std::string_view text);

}  // namespace lewis
