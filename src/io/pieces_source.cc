#include "io/pieces_source.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "base/dtype.h"

namespace lewis {
namespace {

class PiecesSource final : public TensorSource {
 public:
  PiecesSource(std::shared_ptr<const TensorSource> source, std::vector<PiecedTensor> tensors)
      : source_(std::move(source)), pieced_(std::move(tensors)) {
    std::ranges::sort(pieced_, {},
                      [](const PiecedTensor& t) -> const std::string& { return t.info.name; });
    for (const PiecedTensor& t : pieced_) tensors_.push_back(t.info);
  }

  const std::string& label() const override { return source_->label(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const PiecedTensor& t = of(tensor);
    if (is_whole(t)) return source_->read(*t.pieces[0].stored, first, out);
    const size_t size = dtype_size(t.info.dtype);
    for (const Piece& piece : t.pieces) {
      const int64_t count = piece.place.count();
      if (first < count && !out.empty()) {
        const int64_t n = std::min(count - first, static_cast<int64_t>(out.size() / size));
        const auto part = out.first(static_cast<size_t>(n) * size);
        read_piece(piece, first, size, part);
        out = out.subspan(part.size());
      }
      first = std::max<int64_t>(0, first - count);
    }
  }

  ReadCost read_cost(const TensorInfo& tensor) const override {
    const PiecedTensor& t = of(tensor);
    if (is_whole(t)) return source_->read_cost(*t.pieces[0].stored);
    ReadCost cost;
    for (const Piece& piece : t.pieces) {
      const ReadCost all = source_->read_cost(*piece.stored);
      const uint64_t bytes = std::max<uint64_t>(1, byte_size(*piece.stored));
      const uint64_t read = span_elements(piece.place) * dtype_size(t.info.dtype);
      cost.disk_bytes +=
          static_cast<uint64_t>(static_cast<double>(all.disk_bytes) * static_cast<double>(read) /
                                static_cast<double>(bytes));
      cost.memory = std::max(cost.memory, all.memory + (piece.place.is_contiguous() ? 0 : read));
      add_places(all, piece, cost.places);
    }
    return cost;
  }

 private:
  const PiecedTensor& of(const TensorInfo& tensor) const {
    return pieced_[static_cast<size_t>(&get(tensor.name) - tensors_.data())];
  }
  static bool is_whole(const PiecedTensor& t) { return t.pieces[0].place.rows == 0; }
  static uint64_t span_elements(const Strides& s) {
    return static_cast<uint64_t>(s.is_contiguous() ? s.count() : s.end() - s.first);
  }

  // Of a tensor that is read as it is stored, the range of the piece; of others all that they read.
  static void add_places(const ReadCost& all, const Piece& piece, std::vector<FilePlace>& places) {
    const uint64_t bytes = byte_size(*piece.stored);
    if (all.places.size() != 1 || all.places[0].size != bytes) {
      std::ranges::copy(all.places, std::back_inserter(places));
      return;
    }
    const size_t size = dtype_size(piece.stored->dtype);
    FilePlace place = all.places[0];
    place.offset += static_cast<uint64_t>(piece.place.first) * size;
    place.size = span_elements(piece.place) * size;
    places.push_back(place);
  }

  // The whole range of a matrix whose elements do not lie one after the other is read at once.
  void read_piece(const Piece& piece, int64_t first, size_t size, std::span<std::byte> out) const {
    const Strides& place = piece.place;
    if (place.is_contiguous()) return source_->read(*piece.stored, place.first + first, out);
    std::vector<std::byte> range(span_elements(place) * size);
    source_->read(*piece.stored, place.first, range);
    gather(place, first, range, place.first, size, out);
  }

  std::shared_ptr<const TensorSource> source_;
  std::vector<PiecedTensor> pieced_;  // sorted by name
  std::vector<TensorInfo> tensors_;
};

// Elements of two and four bytes are copied as numbers: a call of memcpy for each takes longer.
template <typename T>
void gather_as(const Strides& m, int64_t begin, const std::byte* tensor, int64_t base, size_t count,
               std::byte* out) {
  int64_t row = begin / m.columns, column = begin % m.columns;
  for (size_t i = 0; i < count; ++i) {
    const int64_t at = m.first - base + row * m.row_step + column * m.column_step;
    std::memcpy(out + i * sizeof(T), tensor + static_cast<size_t>(at) * sizeof(T), sizeof(T));
    if (++column < m.columns) continue;
    column = 0;
    ++row;
  }
}

template <typename T>
void scatter_as(const Strides& m, const std::byte* values, int64_t base, std::byte* tensor) {
  size_t i = 0;
  for (int64_t row = 0; row < m.rows; ++row) {
    for (int64_t column = 0; column < m.columns; ++column, ++i) {
      const int64_t at = m.first - base + row * m.row_step + column * m.column_step;
      std::memcpy(tensor + static_cast<size_t>(at) * sizeof(T), values + i * sizeof(T), sizeof(T));
    }
  }
}

}  // namespace

void gather(const Strides& matrix, int64_t begin, std::span<const std::byte> tensor, int64_t base,
            size_t size, std::span<std::byte> out) {
  const auto copy = size == 4 ? gather_as<uint32_t> : gather_as<uint16_t>;
  copy(matrix, begin, tensor.data(), base, out.size() / size, out.data());
}

void scatter(const Strides& matrix, std::span<const std::byte> values, int64_t base, size_t size,
             std::span<std::byte> tensor) {
  const auto copy = size == 4 ? scatter_as<uint32_t> : scatter_as<uint16_t>;
  copy(matrix, values.data(), base, tensor.data());
}

PiecedTensor whole_tensor(const TensorInfo& tensor) { return {tensor, {{&tensor, {}}}}; }

std::shared_ptr<const TensorSource> show_pieces(std::shared_ptr<const TensorSource> source,
                                                std::vector<PiecedTensor> tensors) {
  return std::make_shared<const PiecesSource>(std::move(source), std::move(tensors));
}

}  // namespace lewis
