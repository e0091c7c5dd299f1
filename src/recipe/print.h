// Parts of printed recipes.
#pragma once

#include <string>

namespace lewis {

// A text as a YAML scalar: plain where nothing can go wrong, else in double quotes.
std::string yaml_scalar(const std::string& text);

}  // namespace lewis
