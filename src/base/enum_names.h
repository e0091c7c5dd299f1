// Enumerations whose values have names that people write: in recipes, on the command line, in
// files. An enumeration has one table of names; all that reads, prints or suggests them asks it:
//
//   enum class Protocol { kClean, kReference };
//   template <>
//   inline constexpr auto kEnumNames<Protocol> = std::to_array<EnumName<Protocol>>(
//       {{Protocol::kClean, "clean"}, {Protocol::kReference, "reference"}});
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"

namespace lewis {

template <typename E>
struct EnumName {
  E value;
  std::string_view name;
};

// The table of names of E, in the order in which messages list them.
template <typename E>
inline constexpr std::array<EnumName<E>, 0> kEnumNames{};

template <typename E>
constexpr std::string_view name_of(E value) {
  for (const EnumName<E>& row : kEnumNames<E>) {
    if (row.value == value) return row.name;
  }
  throw failed_error("a table of names lacks the value {}", static_cast<int>(value));
}

// The value of a name; nullopt when the table does not have it.
template <typename E>
constexpr std::optional<E> find_value_of(std::string_view name) {
  for (const EnumName<E>& row : kEnumNames<E>) {
    if (row.name == name) return row.value;
  }
  return std::nullopt;
}

template <typename E>
std::vector<std::string_view> names_of() {
  std::vector<std::string_view> names;
  for (const EnumName<E>& row : kEnumNames<E>) names.push_back(row.name);
  return names;
}

// "'claen' is not known; did you mean 'clean'? (known: clean, reference)"
template <typename E>
std::string unknown_name(std::string_view name) {
  return unknown_name(name, names_of<E>());
}

// The value of a name. Throws Error(kUsage) "WHAT 'claen' is not known; ..." for any other.
template <typename E>
E value_of(std::string_view name, std::string_view what) {
  if (const auto value = find_value_of<E>(name)) return *value;
  throw usage_error("{} {}", what, unknown_name<E>(name));
}

}  // namespace lewis
