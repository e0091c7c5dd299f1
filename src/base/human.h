// Numbers and lists as people read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lewis {

// "3.4 MB", "512 B": decimal units, as disks are sold.
std::string human_bytes(uint64_t bytes);
// "2m 05s", "12.3 s"
std::string human_seconds(double seconds);
// "1,234,567"
std::string with_commas(uint64_t n);
// "a, b, c and 4 more": at most so many of the names.
std::string some_of(std::span<const std::string> names, size_t most);

}  // namespace lewis
