#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace lewis {
namespace {

std::string pad(const TerminalText& cell, size_t width, Align align) {
  const std::string blanks(width - std::min(width, display_width(cell.string())), ' ');
  return align == Align::kLeft ? cell.string() + blanks : blanks + cell.string();
}

std::string strip_right(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

std::vector<size_t> Table::widths() const {
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = display_width(columns_[c].head.string());
    for (const auto& row : rows_) {
      if (c < row.size()) width = std::max(width, display_width(row[c].string()));
    }
    widths.push_back(width);
  }
  return widths;
}

size_t Table::width() const {
  size_t sum = 0;
  for (const size_t width : widths()) sum += width + 2;
  return sum - std::min<size_t>(sum, 2);
}

Table Table::in_ascii() const {
  Terminal ascii;
  ascii.unicode = false;
  Table table = *this;
  for (Column& column : table.columns_) column.head = for_terminal(column.head, ascii);
  for (auto& row : table.rows_) {
    for (TerminalText& cell : row) cell = for_terminal(cell, ascii);
  }
  return table;
}

// Elides uncoloured cells of the first column to the room that the other columns leave, but to no
// fewer than 16 columns.
void Table::narrow(size_t most) {
  if (width() <= most || columns_.empty() || columns_[0].align != Align::kLeft) return;
  const size_t first = widths()[0];
  const size_t rest = width() - first;
  const size_t room = std::max<size_t>(16, most > rest ? most - rest : 0);
  for (auto& row : rows_) {
    if (!row.empty() && row[0].string().find('\x1b') == std::string::npos)
      row[0] = elide(row[0], room);
  }
}

std::vector<Table> Table::parts(size_t most) const {
  const std::vector<size_t> widths = this->widths();
  std::vector<Table> parts;
  for (size_t begin = 1; begin < columns_.size();) {
    size_t end = begin, sum = widths[0];
    while (end < columns_.size() && (end == begin || sum + 2 + widths[end] <= most))
      sum += 2 + widths[end++];
    std::vector<Column> columns = {columns_[0]};
    columns.insert(columns.end(), columns_.begin() + begin, columns_.begin() + end);
    Table part(columns);
    for (const auto& row : rows_) {
      part.rows_.emplace_back();
      for (size_t c = 0; c < row.size(); ++c) {
        if (c == 0 || (c >= begin && c < end)) part.rows_.back().push_back(row[c]);
      }
    }
    parts.push_back(std::move(part));
    begin = end;
  }
  return parts;
}

TerminalText Table::text(const Terminal& terminal) const {
  Table table = terminal.unicode ? *this : in_ascii();
  const auto most = static_cast<size_t>(std::max(terminal.width, 1));
  if (terminal.tty) table.narrow(most);
  if (!terminal.tty || table.width() <= most || columns_.size() < 3)
    return for_terminal(table.lines(terminal), terminal);
  TerminalText text;
  for (const Table& part : table.parts(most)) {
    if (!text.empty()) text += TerminalText::ready("\n");
    text += part.lines(terminal);
  }
  return for_terminal(text, terminal);
}

TerminalText Table::lines(const Terminal& terminal) const {
  const std::vector<size_t> widths = this->widths();
  const auto line = [&](auto cell_of) {
    std::string text;
    for (size_t c = 0; c < columns_.size(); ++c) {
      text += (c ? "  " : "") + pad(cell_of(c), widths[c], columns_[c].align);
    }
    return strip_right(text);
  };
  std::string result = line([&](size_t c) { return columns_[c].head; });
  if (terminal.color) {
    result.pop_back();
    result = styled(TerminalText::ready(result), "2", true).string() + "\n";
  }
  for (const auto& row : rows_) {
    if (row.empty()) {
      std::string rule;
      for (size_t i = 0; i < width(); ++i) rule += "─";
      result += styled(rule, "2", terminal.color).string() + "\n";
    } else {
      result += line([&](size_t c) { return c < row.size() ? row[c] : TerminalText(); });
    }
  }
  return TerminalText::ready(result);
}

namespace {

// In the 256-colour cube; `dark_text`: the steps on which black is easier to read than white.
template <size_t n>
TerminalText colored_cell(const TerminalText& text, double share, const std::array<int, n>& ramp,
                          const std::array<bool, n>& dark_text) {
  const double clipped = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0.0;
  const auto step = std::min(n - 1, static_cast<size_t>(clipped * n));
  return terminal_text("\x1b[48;5;{};38;5;{}m{}\x1b[0m", ramp[step], dark_text[step] ? 16 : 231,
                       text);
}

}  // namespace

TerminalText heat_cell(const TerminalText& text, double share, bool color) {
  if (!color) return text;
  // Eight steps of viridis (van der Walt and Smith, 2015).
  static constexpr std::array<int, 8> kRamp = {53, 54, 24, 30, 36, 71, 149, 226};
  static constexpr std::array<bool, 8> kDark = {0, 0, 0, 0, 1, 1, 1, 1};
  return colored_cell(text, share, kRamp, kDark);
}

TerminalText diverging_cell(const TerminalText& text, double share, bool color) {
  if (!color) return text;
  static constexpr std::array<int, 7> kRamp = {25, 74, 153, 254, 223, 215, 130};
  static constexpr std::array<bool, 7> kDark = {0, 1, 1, 1, 1, 1, 0};
  return colored_cell(text, share, kRamp, kDark);
}

}  // namespace lewis
