// The source that this program was built from. cmake/write_build.cmake writes the definitions in
// every build; base/build.h is what others include.
#pragma once

namespace lewis {

extern const char* const kSourceVersion;  // "0.1.0", of CMakeLists.txt
extern const char* const kSourceCommit;   // "ec725db203a8-dirty"; "unknown" outside a git clone

}  // namespace lewis
