#include "text/formats/guess.h"

#include <initializer_list>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "text/data_bytes.h"
#include "text/data_set.h"
#include "text/formats/format.h"
#include "text/line_reader.h"

namespace lewis {
namespace {

bool has_all(const Json& row, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (!row.contains(name)) return false;
  }
  return true;
}

// The first line that is not blank; "" where there is none.
std::string first_line(const std::filesystem::path& data) {
  LineReader lines(data);
  while (const auto line = lines.next()) {
    if (line->find_first_not_of(" \t") != line->npos) return std::string(*line);
  }
  return "";
}

// A text file by its name: "notes.txt", "notes.md.gz".
bool is_text_name(const std::filesystem::path& file) {
  std::filesystem::path name = file.filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  return name.extension() == ".txt" || name.extension() == ".md";
}

}  // namespace

DataFormat guess_format(const std::filesystem::path& data) {
  constexpr std::string_view kGive = "give --format (or `format:` in the recipe)";
  const auto files = data_files(data);
  if (is_text_name(files[0])) return DataFormat::kText;
  const std::string line = first_line(data);
  if (line.empty() || line[0] != '{') {
    throw usage_error("{}: the format cannot be told from its ending or its first row; {}",
                      data.string(), kGive);
  }
  const Json row = parse_json(line, data.string());
  if (has_all(row, {"ids"})) return DataFormat::kIds;
  if (has_all(row, {"instruction_id_list", "prompt"})) return DataFormat::kIfeval;
  if (has_all(row, {"code", "test_list"})) return DataFormat::kMbpp;
  if (has_all(row, {"messages"}) || has_all(row, {"conversations"})) return DataFormat::kChat;
  if (has_all(row, {"question", "answer"})) return DataFormat::kGsm8k;
  if (chat_columns(row)) return DataFormat::kChat;
  if (has_all(row, {"text"})) return DataFormat::kJsonl;
  throw usage_error("{}: no format has its columns, {}; {}, with jsonl also the fields",
                    data.string(), column_names(row), kGive);
}

}  // namespace lewis
