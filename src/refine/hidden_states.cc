#include "refine/hidden_states.h"

namespace lewis {

HiddenStates::HiddenStates(int64_t rows, int64_t width, int64_t lent_width,
                           const std::filesystem::path& spill)
    : rows_(rows), width_(width), lent_width_(lent_width) {
  const auto values = static_cast<size_t>(rows * (width + lent_width));
  if (spill.empty()) {
    memory_.resize(values);
  } else {
    file_ = File::create(spill);
    file_->allocate(values * sizeof(float));
  }
}

void HiddenStates::read_piece(int64_t first, std::span<float> values) const {
  if (file_) {
    file_->read_at(static_cast<uint64_t>(first) * sizeof(float), std::as_writable_bytes(values));
  } else {
    std::copy_n(memory_.begin() + static_cast<std::ptrdiff_t>(first), values.size(),
                values.begin());
  }
}

void HiddenStates::write_piece(int64_t first, std::span<const float> values) {
  if (file_) {
    file_->write_at(static_cast<uint64_t>(first) * sizeof(float), std::as_bytes(values));
  } else {
    std::ranges::copy(values, memory_.begin() + static_cast<std::ptrdiff_t>(first));
  }
}

void HiddenStates::read(int64_t first_row, std::span<float> values) const {
  read_piece(first_row * width_, values);
}

void HiddenStates::write(int64_t first_row, std::span<const float> values) {
  write_piece(first_row * width_, values);
}

void HiddenStates::read_lent(int64_t first_row, int64_t first_column, int64_t columns,
                             std::span<float> values) const {
  const auto width = static_cast<size_t>(columns);
  for (size_t i = 0; i < values.size() / width; ++i) {
    const int64_t row = first_row + static_cast<int64_t>(i);
    read_piece(rows_ * width_ + row * lent_width_ + first_column, values.subspan(i * width, width));
  }
}

void HiddenStates::write_lent(int64_t first_row, int64_t first_column, int64_t columns,
                              std::span<const float> values) {
  const auto width = static_cast<size_t>(columns);
  for (size_t i = 0; i < values.size() / width; ++i) {
    const int64_t row = first_row + static_cast<int64_t>(i);
    write_piece(rows_ * width_ + row * lent_width_ + first_column,
                values.subspan(i * width, width));
  }
}

void HiddenStates::save(const std::filesystem::path& path) const {
  write_file_durably(path, [&](const File& file) {
    for_pieces([&](int64_t first, std::span<float> values) {
      read_piece(first, values);
      file.write_at(static_cast<uint64_t>(first) * sizeof(float), std::as_bytes(values));
    });
  });
}

void HiddenStates::load(const std::filesystem::path& path) {
  const File file = File::open_read(path);
  for_pieces([&](int64_t first, std::span<float> values) {
    file.read_at(static_cast<uint64_t>(first) * sizeof(float), std::as_writable_bytes(values));
    write_piece(first, values);
  });
}

void HiddenStates::take_lent(const HiddenStates& other) {
  if (lent_width_ == 0) return;
  constexpr int64_t kRows = 1024;
  std::vector<float> values;
  for (int64_t first = 0; first < rows_; first += kRows) {
    values.resize(static_cast<size_t>(std::min(kRows, rows_ - first) * lent_width_));
    const int64_t at = rows_ * width_ + first * lent_width_;
    other.read_piece(at, values);
    write_piece(at, values);
  }
}

}  // namespace lewis
