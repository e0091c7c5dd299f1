// The speed of a disk, and where a new file would lie.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace lewis {

struct DiskSpeed {
  double read = 0, write = 0;  // bytes per second
};

// Reads some of `source` and writes, flushes and removes a small file in `folder`, which takes some
// hundredths of a second. A file in the page cache is read at the speed of memory, now and later.
DiskSpeed measure_disk(const std::filesystem::path& source, const std::filesystem::path& folder);

// The folder NAME-USER in the system's folder for temporary files, made if it is not there. Nobody
// else can read or write it (mode 700, and it is ours); nothing where that cannot be had.
std::optional<std::filesystem::path> private_temporary_folder(std::string_view name);

// A new folder of a unique name NAME-XXXXXX in `folder`, which is made if it is not there. Only
// this user can read it. Error(kResource).
std::filesystem::path make_unique_folder(const std::filesystem::path& folder,
                                         std::string_view name);

// Removes the folders NAME-... in `folder` that processes which are gone have left: they have the
// file `marker`, which nobody has locked. Links are not followed.
void remove_abandoned_folders(const std::filesystem::path& folder, std::string_view name,
                              std::string_view marker);

// The nearest folder above `path` that exists, where a new `path` would be made.
std::filesystem::path existing_folder(const std::filesystem::path& path);

}  // namespace lewis
