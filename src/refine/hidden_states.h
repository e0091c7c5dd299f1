// The hidden states of one stream between two blocks, and what blocks lend to later ones (keys and
// values): in memory, or in a file when memory is short.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "io/file.h"

namespace lewis {

class HiddenStates {
 public:
  // [rows, width], and what is lent, [rows, lent_width]; both of arbitrary content. `spill`: the
  // file that holds them; empty: memory does.
  HiddenStates(int64_t rows, int64_t width, int64_t lent_width, const std::filesystem::path& spill);

  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }
  int64_t lent_width() const { return lent_width_; }
  // Whole rows from first_row on.
  void read(int64_t first_row, std::span<float> values) const;
  void write(int64_t first_row, std::span<const float> values);
  // Columns of what is lent, `columns` from `first_column` on, of whole rows from first_row on.
  void read_lent(int64_t first_row, int64_t first_column, int64_t columns,
                 std::span<float> values) const;
  void write_lent(int64_t first_row, int64_t first_column, int64_t columns,
                  std::span<const float> values);

  // f(first, values) over pieces of all values, hidden states and what is lent, as if they were one
  // list.
  template <typename F>
  void for_pieces(const F& f) const {
    constexpr int64_t kValues = int64_t{1} << 20;
    const int64_t all = rows_ * (width_ + lent_width_);
    std::vector<float> values(static_cast<size_t>(std::min(kValues, all)));
    for (int64_t first = 0; first < all; first += kValues)
      f(first, std::span(values).first(static_cast<size_t>(std::min(kValues, all - first))));
  }
  void read_piece(int64_t first, std::span<float> values) const;
  void write_piece(int64_t first, std::span<const float> values);

  // All values, to a file that is there whole or not at all; and back.
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);
  // What `other`, of the same shape, has lent.
  void take_lent(const HiddenStates& other);

 private:
  int64_t rows_, width_, lent_width_;
  std::vector<float> memory_;
  std::optional<File> file_;
};

}  // namespace lewis
