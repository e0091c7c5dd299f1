// Notes: lines for people about what was left out, taken apart or read in another way.
#pragma once

#include <functional>
#include <span>
#include <string>

namespace lewis {

// Takes one line; may be empty.
using NoteFn = std::function<void(const std::string&)>;

inline void tell_all(const NoteFn& note, std::span<const std::string> lines) {
  if (!note) return;
  for (const std::string& line : lines) note(line);
}

}  // namespace lewis
