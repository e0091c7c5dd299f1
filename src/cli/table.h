// Tables, and coloured cells of heat maps, in the terminal.
#pragma once

#include <string>
#include <vector>

#include "cli/terminal.h"

namespace lewis {

enum class Align { kLeft, kRight };

// Columns are as wide as their widest cell, two spaces apart. Cells may be styled. On a
// terminal that is too narrow the first column is elided; if that is not enough, the other columns
// follow below one another, with the first before each part.
class Table {
 public:
  struct Column {
    TerminalText head;
    Align align = Align::kRight;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // Missing cells are empty.
  void add(std::vector<TerminalText> cells) { rows_.push_back(std::move(cells)); }
  void add_line() { rows_.emplace_back(); }  // a rule
  // Every line ends in '\n' and has no blanks at its end; heads are dim where there is colour.
  TerminalText text(const Terminal& terminal) const;
  size_t width() const;  // of the widest line

 private:
  std::vector<size_t> widths() const;
  Table in_ascii() const;
  void narrow(size_t width);
  std::vector<Table> parts(size_t width) const;
  TerminalText lines(const Terminal& terminal) const;

  std::vector<Column> columns_;
  std::vector<std::vector<TerminalText>> rows_;
};

// The text on a background from dark blue (share 0) over green to yellow (share 1), a ramp that
// colour-blind people can read; without colour the text alone.
TerminalText heat_cell(const TerminalText& text, double share, bool color);
// The same from blue (0) over grey (0.5) to orange (1).
TerminalText diverging_cell(const TerminalText& text, double share, bool color);

}  // namespace lewis
