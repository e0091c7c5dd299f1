// MBPP: {"text": ..., "code": ..., "test_list": [...]}; the sanitized file says "prompt" for
// "text".
#include "base/json.h"
#include "text/formats/format.h"

namespace lewis {
namespace {

const std::string& first_test(const Row& row) {
  const Json& tests = row.field("test_list");
  if (!tests.is_array() || tests.empty() || !tests.front().is_string()) {
    throw row_error(row, "the field 'test_list' must be a list of strings with at least one");
  }
  return tests.front().get_ref<const std::string&>();
}

}  // namespace

std::vector<DataItem> read_mbpp(const FormatInput& input) {
  return read_rows(input, [](const Row& row) {
    const std::string& text = row.text(!row.has("text") && row.has("prompt") ? "prompt" : "text");
    const std::string& code = row.text("code");
    DataItem item = row.item();
    item.prompt = "\"\"\"\n" + text + "\n" + first_test(row) + "\n\"\"\"\n";
    item.answer = code;
    item.reference_text = text + " " + code;
    return item;
  });
}

}  // namespace lewis
