#include "cli/inspect_tensors.h"

#include <unistd.h>

#include <map>

#include "base/json.h"
#include "cli/output.h"
#include "cli/table.h"
#include "io/compare.h"

namespace lewis {
namespace {

// model.layers.3.mlp -> model.layers.*.mlp: tensors that repeat layer by layer are one line.
std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    pattern += (begin ? "." : "") + (number ? "*" : part);
    begin = end + 1;
  }
  return pattern;
}

}  // namespace

TerminalText tensors_table(std::span<const InspectedTensor> tensors) {
  struct Row {
    const InspectedTensor* first = nullptr;
    size_t count = 0;
  };
  std::map<std::string, Row> rows;
  for (const InspectedTensor& t : tensors) {
    Row& row = rows[pattern_of(t.name) + " " + to_string(t.shape) + t.type];
    if (row.count++ == 0) row.first = &t;
  }
  Table table({{"tensors", Align::kLeft}, {"times"}, {"type"}, {"shape", Align::kLeft}});
  for (const auto& [_, row] : rows) {
    table.add({pattern_of(row.first->name), std::to_string(row.count), row.first->type,
               to_string(row.first->shape)});
  }
  return table.text(Terminal::of(STDOUT_FILENO));
}

void print_tensor(const TensorSource& source, const TensorInfo& t, const std::string& type,
                  bool json, Threads& threads) {
  Json all = {{"tensor", t.name}, {"dtype", type}, {"shape", t.shape}};
  TerminalText text = terminal_text("{}: {} {}\n", t.name, type, to_string(t.shape));
  if (is_arithmetic(t.dtype)) {
    const TensorSummary s = summarize(source, t, threads);
    const double share =
        s.count ? 100.0 * static_cast<double>(s.zeros) / static_cast<double>(s.count) : 0;
    text += terminal_text(
        "min {:.6g}, max {:.6g}, mean {:.6g}, standard deviation {:.6g}\n"
        "zeros {} ({:.1f} %), not finite {}\n",
        s.min, s.max, s.mean, s.deviation, with_commas(static_cast<uint64_t>(s.zeros)), share,
        with_commas(static_cast<uint64_t>(s.not_finite)));
    all.update({{"min", s.min},
                {"max", s.max},
                {"mean", s.mean},
                {"standard_deviation", s.deviation},
                {"zeros", s.zeros},
                {"not_finite", s.not_finite}});
  }
  json ? write_json(all) : write_out(text);
}

}  // namespace lewis
