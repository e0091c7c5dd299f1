// The programs that tests start lie beside the test's own program. The same objects of a test are
// linked into a plain program and into one with sanitizers (cmake/sanitized.cmake), which is why
// the folder and the sanitizer are looked for while a test runs.
#pragma once

#include <filesystem>
#include <string>

extern "C" void __asan_init() __attribute__((weak));
extern "C" void __tsan_init() __attribute__((weak));

namespace lewis {

// The path of the program `name` (lewis, lewis_shimmed) beside the running one.
inline std::string program_beside(const std::string& name) {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / name).string();
}

inline std::string lewis_program() { return program_beside("lewis"); }

// Whether this process has the address or the thread sanitizer.
inline bool sanitized() { return __asan_init != nullptr || __tsan_init != nullptr; }

}  // namespace lewis
