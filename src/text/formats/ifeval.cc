// IFEval (Zhou et al., arXiv 2311.07911): {"prompt": ..., "instruction_id_list": [...], "kwargs":
// [...]}. There is no answer: rules say what the response must be like (eval/answers/ifeval.h).
#include "text/formats/format.h"

namespace lewis {

std::vector<DataItem> read_ifeval(const FormatInput& input) {
  return read_rows(input, [](const Row& row) {
    DataItem item = row.item();
    item.prompt = row.text("prompt");
    item.reference_text = item.prompt;
    return item;
  });
}

}  // namespace lewis
