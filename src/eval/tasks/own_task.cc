#include "eval/tasks/own_task.h"

#include <charconv>

#include "base/error.h"
#include "base/json.h"

namespace lewis {
namespace {

std::string text_of(const Json& value, std::string_view field, std::string_view where) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  throw input_error("{}: the field '{}' is neither a text nor a number", where, field);
}

// "name" or "name[2]".
std::string field_text(std::string_view field, const Json& row, std::string_view where) {
  const size_t bracket = std::min(field.find('['), field.size());
  const auto found = row.find(field.substr(0, bracket));
  if (found == row.end()) {
    throw input_error("{}: there is no field '{}'", where, field.substr(0, bracket));
  }
  if (bracket == field.size()) return text_of(*found, field, where);
  const char* begin = field.data() + bracket + 1;
  const char* end = field.data() + field.size() - 1;
  size_t index = 0;
  const auto [rest, error] = std::from_chars(begin, end, index);
  if (field.back() != ']' || error != std::errc() || rest != end) {
    throw usage_error("in a template, '{{{}}}': expected a number in brackets at the end", field);
  }
  if (!found->is_array() || index >= found->size()) {
    throw input_error("{}: there is no '{}'", where, field);
  }
  return text_of((*found)[index], field, where);
}

}  // namespace

std::string fill_template(std::string_view text, const Json& row, const std::string* generated,
                          std::string_view where) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool twice = i + 1 < text.size() && text[i + 1] == c;
    if ((c == '{' || c == '}') && twice) {
      result += c;
      ++i;
    } else if (c == '{') {
      const size_t end = text.find('}', i);
      if (end == text.npos)
        throw usage_error("in a template: '{{' without '}}' (a brace is '{{{{')");
      const std::string_view field = text.substr(i + 1, end - i - 1);
      result += generated && field == "generated" ? *generated : field_text(field, row, where);
      i = end;
    } else if (c == '}') {
      throw usage_error("in a template: '}}' without '{{' (a brace is '}}}}')");
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace lewis
