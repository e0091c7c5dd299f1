#pragma once

namespace lewis {

// "0.1.0", from CMakeLists.txt.
extern const char* const kVersion;

}  // namespace lewis
