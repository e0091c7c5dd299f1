// Places that a verb will write to, checked before its work.
#pragma once

#include <filesystem>

namespace lewis {

// Throws Error when `file`, or a folder of that name, can clearly not be made: a name that is too
// long, a link in a circle, something above it that is no folder or must not be written in.
// Missing folders above it are an error unless `makes_folders`. Nothing on disk changes.
void check_output(const std::filesystem::path& file, bool makes_folders = false);

}  // namespace lewis
