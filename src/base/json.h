// Strict JSON. Only this file and base/json_fwd.h include nlohmann. Headers that merely mention
// Json include base/json_fwd.h.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/json_fwd.h"

namespace lewis {

// Parses one JSON value. Refuses duplicate keys, nesting deeper than 64, text that is not UTF-8
// and anything after the value. `where` (a file, "file:line") begins the message of the Error
// (kInput).
Json parse_json(std::string_view text, std::string_view where);

SortedJson parse_sorted_json(std::string_view text, std::string_view where);

// Reads and parses a file; the Error (kInput) names it.
Json read_json(const std::filesystem::path& file);

}  // namespace lewis
