#include "text/dataset.h"

#include <algorithm>

#include "base/error.h"
#include "text/formats/format.h"

namespace lewis {

std::vector<DataItem> read_data(const DataOptions& options, const ChatTemplate* chat) {
  const auto& table = format_table();
  const auto format = std::ranges::find(table, options.format, &FormatRow::format);
  if (format == table.end())
    throw failed_error("nothing reads the data format {}", name_of(options.format));
  std::vector<DataItem> items = format->read({options, chat});
  if (items.empty()) {
    throw input_error("{}: no item of format {}: the file is empty", options.file.string(),
                      name_of(options.format));
  }
  return items;
}

TokenSequence tokenize(const Tokenizer* tokenizer, const DataItem& item) {
  if (item.kind == DataItem::Kind::kIds) return {item.ids, 0};
  if (tokenizer == nullptr) throw input_error("{}: a text needs a tokenizer", item.where);
  const bool add_special = item.kind != DataItem::Kind::kChat;
  TokenSequence sequence{tokenizer->encode(item.prompt, add_special), 0};
  sequence.prompt_tokens = sequence.ids.size();
  const std::vector<int32_t> answer = tokenizer->encode(item.answer, false);
  sequence.ids.insert(sequence.ids.end(), answer.begin(), answer.end());
  return sequence;
}

}  // namespace lewis
