// The format of data that nobody has named.
#pragma once

#include <filesystem>

#include "base/data_format.h"

namespace lewis {

// By the ending (.txt and .md are text), else by the columns of the first row. Throws Error(kUsage)
// that lists the columns when they are those of no format, or when there is no row, and
// Error(kInput) when the data cannot be read.
DataFormat guess_format(const std::filesystem::path& data);

}  // namespace lewis
