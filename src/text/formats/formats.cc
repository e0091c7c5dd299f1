// The table of data formats: a format is one file in this folder, one
// declaration in format.h and one line here.
#include "text/formats/format.h"

namespace lewis {

const std::vector<DataFormat>& format_table() {
  static const std::vector<DataFormat> table = {
      {"gsm8k", read_gsm8k}, {"mbpp", read_mbpp}, {"ifeval", read_ifeval}, {"chat", read_chat},
      {"jsonl", read_jsonl}, {"text", read_text}, {"ids", read_ids},
  };
  return table;
}

}  // namespace lewis
