// Which language a text is in.
#pragma once

#include <string>
#include <string_view>

namespace lewis {

// An ISO 639-1 code ("zh" for any Chinese), or "" where there are no letters to tell it from. By
// the script, and where several languages share one, by their most frequent words and by letters
// that only one of them has. A text in several languages is that of most of its letters.
std::string detect_language(std::string_view text);

}  // namespace lewis
