// The hidden states of one stream between two blocks: in memory, or in a file when memory is short.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "io/file.h"

namespace lewis {

class HiddenStates {
 public:
  // [rows, width], of arbitrary content. `spill`: the file that holds them; empty: memory does.
  HiddenStates(int64_t rows, int64_t width, const std::filesystem::path& spill);

  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }
  // Whole rows from first_row on.
  void read(int64_t first_row, std::span<float> values) const;
  void write(int64_t first_row, std::span<const float> values);

  // All rows, to a file that is there whole or not at all; and back.
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);

 private:
  // f(first row, values) over pieces of some rows.
  template <typename F>
  void for_pieces(const F& f) const;

  int64_t rows_, width_;
  std::vector<float> memory_;
  std::optional<File> file_;
};

}  // namespace lewis
