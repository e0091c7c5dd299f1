#include "merge/published_files.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "base/path_words.h"
#include "io/hub_cache.h"

namespace lewis {
namespace {

// The texts of tokens and templates may look like paths.
bool holds_text(std::string_view key) {
  static constexpr std::array<std::string_view, 3> kEnds = {"token", "content", "template"};
  return std::ranges::any_of(kEnds, [&](std::string_view end) { return key.ends_with(end); });
}

bool names_the_model(std::string_view key) { return key.ends_with("name_or_path"); }

// The text of a literal with its quotes; "" where it is none.
std::string decoded(std::string_view literal) {
  try {
    return parse_json(std::string(literal), "").get<std::string>();
  } catch (const std::exception&) {
    return "";
  }
}

// The end of the string literal that begins at `begin`.
size_t end_of_literal(std::string_view json, size_t begin) {
  for (size_t i = begin + 1; i < json.size(); ++i) {
    if (json[i] == '\\') {
      ++i;
    } else if (json[i] == '"') {
      return i + 1;
    }
  }
  return json.size();
}

}  // namespace

std::string without_folders_in_json(const std::string& json, const std::string& model,
                                    std::vector<std::string>& changed) {
  std::string out, key;
  size_t copied = 0;
  for (size_t at = json.find('"'); at < json.size(); at = json.find('"', at)) {
    const size_t end = end_of_literal(json, at);
    const std::string_view literal = std::string_view(json).substr(at, end - at);
    const size_t next = json.find_first_not_of(" \t\r\n", end);
    const size_t before = at == 0 ? json.npos : json.find_last_not_of(" \t\r\n", at - 1);
    const bool is_key = next != json.npos && json[next] == ':';
    const bool is_value = before != json.npos && json[before] == ':';
    if (is_key) key = decoded(literal);
    if (is_value && !holds_text(key)) {
      const std::string value = decoded(literal);
      const bool is_path =
          is_path_like(value) || (names_the_model(key) && !value.empty() && !is_hub_id(value));
      if (is_path) {
        out += json.substr(copied, at - copied);
        out += dump_json(names_the_model(key) ? model : last_part(value));
        copied = end;
        changed.push_back(key);
      }
    }
    at = end;
  }
  return out + json.substr(copied);
}

}  // namespace lewis
