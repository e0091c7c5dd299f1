#include "merge/sources/module_pattern.h"

#include <algorithm>

#include "base/error.h"

namespace lewis {
namespace {

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.';
}

// The crate's classes have operators that Python's do not have.
bool has_class_operator(const std::string& key) {
  bool in_class = false;
  for (size_t i = 0; i < key.size(); ++i) {
    if (key[i] == '\\') {
      ++i;
    } else if (!in_class) {
      in_class = key[i] == '[';
      if (!in_class) continue;
      if (key[i + 1] == '^') ++i;
      if (key[i + 1] == ']') ++i;
    } else if (key[i] == ']') {
      in_class = false;
    } else if (key[i] == '[' ||
               ((key[i] == '&' || key[i] == '-' || key[i] == '~') && key[i + 1] == key[i])) {
      return true;
    }
  }
  return false;
}

// Only what means the same in Python's re and in the crate.
Regex module_regex(const std::string& key, const std::string& where) {
  constexpr std::string_view kEscapes = ".dDwWsSbB-^$|()[]{}*+?/\\";
  const std::string shown = key.size() > 100 ? key.substr(0, 100) + "..." : key;
  for (size_t i = 0; i < key.size(); ++i) {
    if (key[i] != '\\') continue;
    if (++i == key.size() || kEscapes.find(key[i]) == std::string_view::npos)
      throw input_error("{}: '{}' has an escape that is not understood", where, shown);
  }
  if (has_class_operator(key))
    throw input_error("{}: '{}' has an operator between classes", where, shown);
  try {
    return Regex("\\A(?:.*\\.)?(?:" + key + ")\\z");
  } catch (const Error& e) {
    if (e.code() == ExitCode::kResource) throw;
    const std::string message = e.what();
    throw input_error("{}: '{}' is not a regular expression that is understood: {}", where, shown,
                      message.substr(message.rfind("': ") + 3));
  }
}

}  // namespace

ModulePattern::ModulePattern(const std::string& key, const std::string& where) {
  if (std::ranges::all_of(key, is_name)) {
    name_ = key;
  } else {
    regex_.emplace(module_regex(key, where));
  }
}

bool ModulePattern::matches(std::string_view module) const {
  if (regex_) return regex_->found_in(module);
  if (module.size() < name_.size()) return false;
  const size_t begin = module.size() - name_.size();
  if (begin > 0 && module[begin - 1] != '.') return false;
  return std::equal(name_.begin(), name_.end(), module.begin() + static_cast<ptrdiff_t>(begin),
                    [](char a, char b) { return a == '.' || a == b; });
}

}  // namespace lewis
