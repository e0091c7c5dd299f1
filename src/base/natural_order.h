// The order in which people number files: step-2 comes before step-10.
#pragma once

#include <string_view>

namespace lewis {

// Compares runs of digits as numbers, everything else byte by byte. Names that differ only in
// leading zeros ("step-02", "step-2") are ordered byte by byte, so the order is total.
bool comes_before(std::string_view a, std::string_view b);

}  // namespace lewis
