// Strict JSON: the only file that includes nlohmann.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

namespace lewis {

// Keeps the order of keys, so that what is written is in the order in which it was built.
using Json = nlohmann::ordered_json;
// Sorts keys and finds them in logarithmic time; Json goes through all of them. For maps with
// hundreds of thousands of keys, as a tokenizer's vocabulary.
using SortedJson = nlohmann::json;

// Parses one JSON value. Refuses duplicate keys, nesting deeper than 64, text that is not UTF-8
// and anything after the value. `where` (a file, "file:line") begins the message of the Error
// (kInput).
Json parse_json(std::string_view text, std::string_view where);

SortedJson parse_sorted_json(std::string_view text, std::string_view where);

// Reads and parses a file; the Error (kInput) names it.
Json read_json(const std::filesystem::path& file);

}  // namespace lewis
