#include "text/formats/format.h"

#include "base/json.h"
#include "text/line_reader.h"

namespace lewis {

std::string column_names(const Json& row) {
  std::string names;
  for (const auto& [key, _] : row.items()) names += (names.empty() ? "" : ", ") + key;
  return names.empty() ? "nothing" : names;
}

const Json& Row::field(std::string_view name) const {
  const auto found = object.find(name);
  if (found != object.end()) return *found;
  throw input_error("{}: the field '{}' is missing; the line has: {}", where, name,
                    column_names(object));
}

const std::string& Row::text(std::string_view name) const {
  const Json& value = field(name);
  if (value.is_string()) return value.get_ref<const std::string&>();
  throw input_error("{}: the field '{}' must be a string, found {}", where, name,
                    value.type_name());
}

bool Row::has(std::string_view name) const { return object.contains(name); }

DataItem Row::item(DataItem::Kind kind) const {
  DataItem item;
  item.kind = kind;
  item.row = raw;
  item.line = line;
  item.where = where;
  return item;
}

Error row_error(const Row& row, std::string_view problem) {
  return input_error("{}: {}", row.where, problem);
}

std::vector<DataItem> read_rows(
    const FormatInput& input, const std::function<std::optional<DataItem>(const Row&)>& read_row) {
  std::vector<DataItem> items;
  LineReader lines(input.options.file);
  while (const auto line = lines.next()) {
    if (line->find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string where = lines.where();
    const Json object = parse_json(*line, where);
    if (!object.is_object()) {
      throw input_error("{}: expected a JSON object, found {}", where, object.type_name());
    }
    if (auto item = read_row(Row{object, *line, lines.number(), where}))
      items.push_back(std::move(*item));
  }
  return items;
}

}  // namespace lewis
