// What a data format is: a function from a file to items. Each has a file of its own
// here, a declaration below, a line in formats.cc and a name in base/data_format.h.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "text/chat_template.h"
#include "text/dataset.h"

namespace lewis {

struct FormatInput {
  const DataOptions& options;
  const ChatTemplate* chat;  // may be null
};

struct FormatRow {
  DataFormat format;
  std::vector<DataItem> (*read)(const FormatInput&);
};

// One file each, whose first comment says what an item of the format is.
std::vector<DataItem> read_gsm8k(const FormatInput& input);
std::vector<DataItem> read_mbpp(const FormatInput& input);
std::vector<DataItem> read_ifeval(const FormatInput& input);
std::vector<DataItem> read_chat(const FormatInput& input);
std::vector<DataItem> read_jsonl(const FormatInput& input);
std::vector<DataItem> read_text(const FormatInput& input);
std::vector<DataItem> read_ids(const FormatInput& input);

// The table of formats.
const std::vector<FormatRow>& format_table();

// One line of a .jsonl file: a JSON object.
struct Row {
  const Json& object;
  std::string_view raw;  // the line itself
  size_t line;           // from 1
  std::string where;     // "file:line", for messages

  // A field of the row. Throws Error(kInput) that names file, line and field when it is missing or
  // is not of the type asked for.
  const Json& field(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  bool has(std::string_view name) const;
  // An item that stands at this row.
  DataItem item(DataItem::Kind kind = DataItem::Kind::kDocument) const;
};

// The items of a .jsonl file, one per line that is not blank and for which `read_row` gives one.
std::vector<DataItem> read_rows(const FormatInput& input,
                                const std::function<std::optional<DataItem>(const Row&)>& read_row);

// The names of a row's columns, "a, b, c"; "nothing" for an empty row.
std::string column_names(const Json& row);

// The columns of a conversation that is not written as a list of messages.
struct ChatColumns {
  const char* question;
  const char* more;  // stands behind the question where it is not empty; null: nothing
  const char* answer;
};
// Those of this row: prompt and response, instruction, input and output, and their likes; nothing
// for any other row.
std::optional<ChatColumns> chat_columns(const Json& row);

// An Error(kInput) that names the file and the line.
Error row_error(const Row& row, std::string_view problem);

}  // namespace lewis
