// Plain text: the whole file is one item without a prompt, cut into windows when it is used.
#include "base/text_file.h"
#include "text/data_bytes.h"
#include "text/data_set.h"
#include "text/formats/format.h"

namespace lewis {

std::vector<DataItem> read_text(const FormatInput& input) {
  constexpr size_t kMostBytes = size_t{1} << 30, kPiece = size_t{1} << 20;
  const std::string file = input.options.file.string();
  std::string text;
  for (const std::filesystem::path& part : data_files(input.options.file)) {
    DataBytes bytes(part);
    if (bytes.is_table()) {
      throw input_error(
          "{}: a table is no plain text; name its column: format: jsonl, and "
          "answer_field",
          part.string());
    }
    for (size_t size = text.size();; size = text.size()) {
      text.resize(size + kPiece);
      text.resize(size + bytes.read(text.data() + size, kPiece));
      if (text.size() == size) break;
      if (text.size() > kMostBytes)
        throw input_error("{}: the text has more than 1 GiB; split it", file);
    }
  }
  if (is_lfs_pointer(text)) throw lfs_pointer_error(input.options.file);
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
