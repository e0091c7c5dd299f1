// Paths of this machine within texts that others will read.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace lewis {

// True for a text that is a path and cannot be an id of the hub: it begins with "/", "~", "./",
// "../" or a drive ("C:\").
bool is_path_like(std::string_view text);

// The last part of a path: "math" of "/home/me/math/", of "~" too what stands behind its last "/".
std::string last_part(std::string_view path);

// The text with the last part of every path in it. A word is a path when it is_path_like, or when
// it has a "/" and `is_path` says so. Addresses ("https://...") stay.
std::string without_folders(std::string_view text,
                            const std::function<bool(const std::string& word)>& is_path = {});

}  // namespace lewis
