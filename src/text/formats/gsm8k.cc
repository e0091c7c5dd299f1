// GSM8K: {"question": ..., "answer": ...}, prompted as lm-evaluation-harness prompts it.
#include "text/formats/format.h"

namespace lewis {

std::vector<DataItem> read_gsm8k(const FormatInput& input) {
  return read_rows(input, [](const Row& row) {
    const std::string& question = row.text("question");
    const std::string& answer = row.text("answer");
    DataItem item = row.item();
    item.prompt = "Question: " + question + "\nAnswer:";
    item.answer = " " + answer;
    item.reference_text = question + " " + answer;
    return item;
  });
}

}  // namespace lewis
