// Strict YAML as a plain tree with line numbers; yaml.cc is the only file that includes libfyaml.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lewis {

struct YamlNode {
  enum class Kind { kScalar, kList, kMap };
  Kind kind = Kind::kScalar;
  int line = 0;  // from 1
  std::string scalar;
  bool plain = false;                                  // a scalar without quotes
  std::vector<YamlNode> items;                         // of a list
  std::vector<std::pair<YamlNode, YamlNode>> entries;  // of a map, in order; keys are scalars

  // The value of a map's key; null when it is not there.
  const YamlNode* find(std::string_view key) const;
  // A scalar without quotes that is empty, "~" or "null".
  bool is_null() const;
  // true or false without quotes; "yes", "on" and the like, which only YAML 1.1 takes for booleans,
  // are neither.
  std::optional<bool> boolean() const;
  // A decimal number, with or without quotes (mergekit takes "1e-5", which YAML 1.1 calls a
  // string). "010", which YAML 1.1 reads as 8, and values beyond a double are none.
  std::optional<double> number() const;
};

// The documents of a text; at least one, empty ones are left out. Throws Error(kUsage)
// "WHERE:LINE: ..." for what is not YAML, anchors, aliases, tags, merge keys, duplicate keys, keys
// that are no scalars, nesting deeper than 32, text that is not UTF-8 or larger than 64 MiB.
std::vector<YamlNode> parse_yaml(std::string_view text, std::string_view where);

// For messages: 'text' in quotes on one line, control characters escaped, long ones cut.
std::string in_quotes(std::string_view text);

}  // namespace lewis
