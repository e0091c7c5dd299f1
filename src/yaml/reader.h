// Reads the values of a YAML tree (yaml/yaml.h) for recipes, tasks and the like: one rule for what
// a text, a number and a flag are. Messages name the file, the line and the key.
//
// Scalars without quotes that YAML 1.1 (which mergekit reads) and YAML 1.2 read differently are
// refused: `010` (8 or 10), `1_000`, `1:30`, `yes`, `no`, `on`, `off`, `y`, `n`,
// and, where a text is expected, `1e4` and `2024-01-31`.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/enum_names.h"
#include "yaml/yaml.h"

namespace lewis {

class YamlReader {
 public:
  // `where`: the file as messages name it.
  explicit YamlReader(std::string where) : where_(std::move(where)) {}

  const std::string& where() const { return where_; }

  // Throws Error(kUsage) "WHERE:LINE: MESSAGE".
  [[noreturn]] void fail(int line, std::string_view message) const;

  // Refuses a node that is no map, and keys that are not known, with the nearest known one.
  void check_keys(const YamlNode& map, std::span<const std::string_view> known,
                  std::string_view what) const;
  void check_keys(const YamlNode& map, std::initializer_list<std::string_view> known,
                  std::string_view what) const {
    check_keys(map, std::span(known.begin(), known.size()), what);
  }
  // The value of a key; null when the key is missing or its value is null.
  static const YamlNode* given(const YamlNode& map, std::string_view key);
  // The value of a key that is a section: a map whose keys may all be missing. A section without
  // any ("refine:") is a map without keys; nothing when the key itself is missing.
  static std::optional<YamlNode> section(const YamlNode& map, std::string_view key);
  // The value of a key, which must be there.
  const YamlNode& need(const YamlNode& map, std::string_view key) const;

  // A scalar as a text, which must not be empty, and which may be.
  std::string text(const YamlNode& node, std::string_view what) const;
  std::string any_text(const YamlNode& node, std::string_view what) const;
  // A decimal number, in quotes or not: mergekit takes "1e-5", which YAML 1.1 calls a text.
  double number(const YamlNode& node, std::string_view what) const;
  // A number in [0, 1].
  double share(const YamlNode& node, std::string_view what) const;
  // A whole number of at least `least`.
  uint64_t count(const YamlNode& node, std::string_view what, uint64_t least = 0) const;
  // true or false without quotes, or 1 or 0.
  bool flag(const YamlNode& node, std::string_view what) const;
  // One of the names of an enumeration.
  template <typename E>
  E choice(const YamlNode& node, std::string_view what) const {
    const std::string name = text(node, what);
    if (const auto value = find_value_of<E>(name)) return *value;
    fail(node.line, fmt::format("{} {}", what, unknown_name<E>(name)));
  }

  // A node for messages: its text in quotes, "a list" or "a map".
  static std::string shown(const YamlNode& node);

 private:
  std::string where_;
};

}  // namespace lewis
