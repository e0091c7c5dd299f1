// The names in an adapter's rank_pattern and alpha_pattern: regular expressions of Python.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/regex.h"

namespace lewis {

// Matches in time linear in the name.
class ModulePattern {
 public:
  // Throws Error(kInput) that begins with `where` for an expression that is none, that is too long,
  // or that means something else here than in Python: lookaround, back-references, operators
  // between classes.
  ModulePattern(const std::string& key, const std::string& where);

  // PEFT's match (peft/utils/other.py, get_pattern_key): re.match(rf"(.*\.)?({key})$", module).
  bool matches(std::string_view module) const;
  // False for a name whose only operator is the dot.
  bool is_expression() const { return regex_.has_value(); }

 private:
  std::string name_;
  std::optional<Regex> regex_;
};

}  // namespace lewis
