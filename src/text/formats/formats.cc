// The table of data formats: a format is one file in this folder, one
// declaration in format.h and one line here.
#include "text/formats/format.h"

namespace lewis {

const std::vector<FormatRow>& format_table() {
  static const std::vector<FormatRow> table = {
      {DataFormat::kGsm8k, read_gsm8k},   {DataFormat::kMbpp, read_mbpp},
      {DataFormat::kIfeval, read_ifeval}, {DataFormat::kChat, read_chat},
      {DataFormat::kJsonl, read_jsonl},   {DataFormat::kText, read_text},
      {DataFormat::kIds, read_ids},
  };
  return table;
}

}  // namespace lewis
