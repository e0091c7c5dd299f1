#include "text/dataset.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/suggest.h"
#include "base/text_file.h"
#include "text/formats/format.h"

namespace lewis {

std::vector<std::string_view> data_formats() {
  std::vector<std::string_view> names;
  for (const DataFormat& format : format_table()) names.push_back(format.name);
  return names;
}

std::vector<DataItem> read_data(const DataOptions& options, const ChatTemplate* chat) {
  const auto& table = format_table();
  const auto format = std::ranges::find(table, options.format, &DataFormat::name);
  if (format == table.end()) {
    const auto names = data_formats();
    throw usage_error("unknown data format '{}'; did you mean '{}'? Known: {}", options.format,
                      nearest_name(options.format, names), fmt::join(names, ", "));
  }
  const std::string text = read_text_file(options.file);
  std::vector<DataItem> items = format->read({options, chat, text});
  if (items.empty()) {
    throw input_error("{}: no item of format {}: the file is empty", options.file.string(),
                      options.format);
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
