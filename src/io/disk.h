// How fast and how full a disk is.
#pragma once

#include <cstdint>
#include <filesystem>

namespace lewis {

struct DiskSpeed {
  double read = 0, write = 0;  // bytes a second
};

// Reads some of `source` and writes, flushes and removes a small file in `folder`: some hundredths
// of a second. What is in the page cache is read at the speed of memory, as it will be.
DiskSpeed measure_disk(const std::filesystem::path& source, const std::filesystem::path& folder);

// The nearest folder above `path` that exists, where a new `path` would be made.
std::filesystem::path existing_folder(const std::filesystem::path& path);

}  // namespace lewis
