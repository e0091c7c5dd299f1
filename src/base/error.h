// The one exception type of lewis, and the exit codes that the command line makes of it.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace lewis {

// The exit codes of the program, for its caller (a shell, a job queue).
enum class ExitCode : int {
  kDone = 0,
  kFailed = 1,        // anything that is neither the user's nor the machine's fault
  kUsage = 2,         // wrong command line or recipe
  kInput = 3,         // a file was refused: its content is not what it must be
  kResource = 4,      // out of disk space or memory
  kVerify = 5,        // bytes are not those that were written
  kInterrupted = 130  // SIGINT or SIGTERM
};

// A message says what failed, where (file, tensor or key), what was expected and what was found,
// and if possible what to do. It is one line.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Shorthands: `throw usage_error("recipe.yml:3: unknown key '{}'", key);`
template <typename... Args>
Error usage_error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ExitCode::kUsage, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Error input_error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ExitCode::kInput, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Error resource_error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ExitCode::kResource, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Error failed_error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(ExitCode::kFailed, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace lewis
