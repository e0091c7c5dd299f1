#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace lewis {
namespace {

std::string pad(const std::string& cell, size_t width, Align align) {
  const std::string blanks(width - std::min(width, display_width(cell)), ' ');
  return align == Align::kLeft ? cell + blanks : blanks + cell;
}

std::string strip_right(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

std::string Table::text(bool color) const {
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = display_width(columns_[c].head);
    for (const auto& row : rows_) {
      if (c < row.size()) width = std::max(width, display_width(row[c]));
    }
    widths.push_back(width);
  }
  const auto line = [&](auto cell_of) {
    std::string text;
    for (size_t c = 0; c < columns_.size(); ++c) {
      text += (c ? "  " : "") + pad(cell_of(c), widths[c], columns_[c].align);
    }
    return strip_right(text);
  };
  std::string result = line([&](size_t c) { return columns_[c].head; });
  if (color) result = styled(result.substr(0, result.size() - 1), "2", true) + "\n";
  for (const auto& row : rows_) {
    if (row.empty()) {
      size_t width = 0;
      for (const size_t w : widths) width += w + 2;
      std::string rule;
      for (size_t i = 0; i + 2 < width; ++i) rule += "─";
      result += styled(rule, "2", color) + "\n";
    } else {
      result += line([&](size_t c) { return c < row.size() ? row[c] : std::string(); });
    }
  }
  return result;
}

std::string heat_cell(std::string_view text, double share, bool color) {
  if (!color) return std::string(text);
  // Eight steps of viridis (van der Walt and Smith, 2015) in the 256-colour cube.
  static constexpr std::array<int, 8> kRamp = {53, 54, 24, 30, 36, 71, 149, 226};
  const double clipped = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0.0;
  const auto step = std::min(kRamp.size() - 1, static_cast<size_t>(clipped * kRamp.size()));
  return fmt::format("\x1b[48;5;{};38;5;{}m{}\x1b[0m", kRamp[step], step >= 4 ? 16 : 231, text);
}

}  // namespace lewis
