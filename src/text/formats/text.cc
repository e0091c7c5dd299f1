// Plain text: the whole file is one item without a prompt, cut into windows when it is used.
#include "base/text_file.h"
#include "text/formats/format.h"

namespace lewis {

std::vector<DataItem> read_text(const FormatInput& input) {
  constexpr uintmax_t kMostBytes = uintmax_t{1} << 30;
  const std::string file = input.options.file.string();
  std::error_code no_size;
  if (std::filesystem::is_regular_file(input.options.file, no_size) &&
      std::filesystem::file_size(input.options.file, no_size) > kMostBytes && !no_size) {
    throw input_error("{}: the text has more than 1 GiB; split it", file);
  }
  const std::string text = read_text_file(input.options.file);
  if (!is_utf8(text)) throw input_error("{}: the text is not UTF-8", file);
  if (text.empty()) return {};
  DataItem item;
  item.kind = DataItem::Kind::kText;
  item.answer = text;
  item.reference_text = text;
  item.line = 1;
  item.where = file + ":1";
  return {item};
}

}  // namespace lewis
