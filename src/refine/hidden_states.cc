#include "refine/hidden_states.h"

#include <algorithm>

namespace lewis {

HiddenStates::HiddenStates(int64_t rows, int64_t width, const std::filesystem::path& spill)
    : rows_(rows), width_(width) {
  const auto values = static_cast<size_t>(rows * width);
  if (spill.empty()) {
    memory_.resize(values);
  } else {
    file_ = File::create(spill);
    file_->allocate(values * sizeof(float));
  }
}

void HiddenStates::read(int64_t first_row, std::span<float> values) const {
  const auto first = static_cast<size_t>(first_row * width_);
  if (file_) {
    file_->read_at(first * sizeof(float), std::as_writable_bytes(values));
  } else {
    std::copy_n(memory_.begin() + static_cast<std::ptrdiff_t>(first), values.size(),
                values.begin());
  }
}

void HiddenStates::write(int64_t first_row, std::span<const float> values) {
  const auto first = static_cast<size_t>(first_row * width_);
  if (file_) {
    file_->write_at(first * sizeof(float), std::as_bytes(values));
  } else {
    std::ranges::copy(values, memory_.begin() + static_cast<std::ptrdiff_t>(first));
  }
}

template <typename F>
void HiddenStates::for_pieces(const F& f) const {
  constexpr int64_t kRows = 1024;
  std::vector<float> values(static_cast<size_t>(std::min(kRows, rows_) * width_));
  for (int64_t first = 0; first < rows_; first += kRows) {
    f(first, std::span(values).first(static_cast<size_t>(std::min(kRows, rows_ - first) * width_)));
  }
}

void HiddenStates::save(const std::filesystem::path& path) const {
  write_file_durably(path, [&](const File& file) {
    for_pieces([&](int64_t first, std::span<float> values) {
      read(first, values);
      file.write_at(static_cast<uint64_t>(first * width_) * sizeof(float), std::as_bytes(values));
    });
  });
}

void HiddenStates::load(const std::filesystem::path& path) {
  const File file = File::open_read(path);
  for_pieces([&](int64_t first, std::span<float> values) {
    file.read_at(static_cast<uint64_t>(first * width_) * sizeof(float),
                 std::as_writable_bytes(values));
    write(first, values);
  });
}

}  // namespace lewis
