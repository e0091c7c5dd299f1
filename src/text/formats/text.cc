// Plain text: the whole file is one item without a prompt, cut into windows when it is used.
#include "base/text_file.h"
#include "text/formats/format.h"

namespace lewis {

std::vector<DataItem> read_text(const FormatInput& input) {
  const std::string file = input.options.file.string();
  if (!is_utf8(input.text)) throw input_error("{}: the text is not UTF-8", file);
  if (input.text.empty()) return {};
  DataItem item;
  item.kind = DataItem::Kind::kText;
  item.answer = input.text;
  item.reference_text = input.text;
  item.line = 1;
  item.where = file + ":1";
  return {item};
}

}  // namespace lewis
