// Short ways to make the one exception type of lewis (include/lewis/error.h).
#pragma once

#include <fmt/format.h>

#include <lewis/error.h>

#include <utility>

namespace lewis {

// `throw usage_error("recipe.yml:3: unknown key '{}'", key);`
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
