// Small files, whole: configs, recipes, data sets.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

// The bytes of a file. Throws Error(kInput) that names the file when it cannot be read.
std::string read_text_file(const std::filesystem::path& file);

// Splits at '\n'; a '\r' before it is removed; a last line without '\n' counts, an empty one not.
std::vector<std::string_view> split_lines(std::string_view text);

// True when all of `text` is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms).
bool is_utf8(std::string_view text);

}  // namespace lewis
