// Small files, whole: configs, recipes, data sets.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <lewis/error.h>

namespace lewis {

// The bytes of a file that the user names. It may be a link, a pipe or a device, of which at most
// 256 MiB are read. Throws Error(kInput) that names the file when it cannot be read, or when it is
// a Git LFS pointer. Files that belong to a folder are read by base/model_files.h.
std::string read_text_file(const std::filesystem::path& file);

// True when a file that begins like this is a Git LFS pointer: three lines that stand for a file
// which `git lfs pull` would fetch.
bool is_lfs_pointer(std::string_view begin);
// The Error(kInput) about one; it says how to fetch the file.
Error lfs_pointer_error(const std::filesystem::path& file);

// Splits at '\n'; a '\r' before it is removed; a last line without '\n' counts, an empty one not.
std::vector<std::string_view> split_lines(std::string_view text);

// True when all of `text` is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms).
bool is_utf8(std::string_view text);

}  // namespace lewis
