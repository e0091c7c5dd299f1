// Strict JSON. Only this file, base/json_map.h and base/json_fwd.h include nlohmann. Headers that
// merely mention Json include base/json_fwd.h.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/json_map.h"
// Behind what Json is made of, since it is the first to use the whole type.
#include "base/json_fwd.h"

namespace lewis {

// Parses one JSON value. Refuses duplicate keys, nesting deeper than 64, more than 4,000,000 values
// (600 MB) or 1,500,000 keys, text that is not UTF-8 or holds a NUL or a byte order mark, and
// anything after the value. `where` (a file, "file:line") begins the message of the Error (kInput).
Json parse_json(std::string_view text, std::string_view where);

// Parses an object, which may have any number of members: instead of being kept, each member of its
// member `key` (an object; an empty key means the whole) is given to `take`, in the file's order,
// and gone afterwards. Returns the rest, with {} in their place. Duplicate keys among the members
// are not looked for; `take` may throw.
using TakeMember = std::function<void(std::string& key, Json& value)>;
Json parse_json_members(std::string_view text, std::string_view where, std::string_view key,
                        const TakeMember& take);

SortedJson parse_sorted_json(std::string_view text, std::string_view where);

// Reads and parses a file; the Error (kInput) names it.
Json read_json(const std::filesystem::path& file);

}  // namespace lewis
