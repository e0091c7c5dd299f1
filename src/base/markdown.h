// Text of strangers in pages of Markdown.
#pragma once

#include <string>
#include <string_view>

namespace lewis {

// The text as one line of Markdown that shows it and nothing else: no markup, no HTML, no links
// but those that a bare "www." makes. It goes through printable() first. Names of models and
// folders of the usual kind stay as they are.
std::string markdown_text(std::string_view text);

}  // namespace lewis
