// The speed of a disk, and where a new file would lie.
#pragma once

#include <cstdint>
#include <filesystem>

namespace lewis {

struct DiskSpeed {
  double read = 0, write = 0;  // bytes per second
};

// Reads some of `source` and writes, flushes and removes a small file in `folder`, which takes some
// hundredths of a second. A file in the page cache is read at the speed of memory, now and later.
DiskSpeed measure_disk(const std::filesystem::path& source, const std::filesystem::path& folder);

// The nearest folder above `path` that exists, where a new `path` would be made.
std::filesystem::path existing_folder(const std::filesystem::path& path);

}  // namespace lewis
