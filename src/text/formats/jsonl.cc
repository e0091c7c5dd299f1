// Any .jsonl file: the prompt and the answer are the fields that the options name. Without a prompt
// field the answer is the whole document; without any, it is the field "text".
#include "text/formats/format.h"

namespace lewis {

std::vector<DataItem> read_jsonl(const FormatInput& input) {
  const DataOptions& options = input.options;
  if (options.answer_field.empty() && !options.prompt_field.empty()) {
    throw usage_error("format jsonl: the prompt field '{}' needs an answer field beside it",
                      options.prompt_field);
  }
  const std::string answer = options.answer_field.empty() ? "text" : options.answer_field;
  return read_rows(input, [&](const Row& row) {
    DataItem item = row.item();
    if (!options.prompt_field.empty()) item.prompt = row.text(options.prompt_field);
    item.answer = row.text(answer);
    // The paper joins what it takes for question and answer by a space.
    item.reference_text = item.prompt.empty() ? item.answer : item.prompt + " " + item.answer;
    return item;
  });
}

}  // namespace lewis
