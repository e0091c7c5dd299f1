#include "io/pieces_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/dtype.h"

namespace lewis {
namespace {

// A matrix of `tensor` in whose place another one lies: rows and columns of `outer` are counted
// along rows and columns of `inner`, which begins at element `begin` of the tensor that both are
// in. None where a row of `outer` would run over the end of one of `inner`.
std::optional<Strides> compose(const Strides& outer, const Strides& inner, int64_t begin) {
  const int64_t at = outer.first - begin, columns = inner.columns;
  const auto step = [&](int64_t n) {
    return n / columns * inner.row_step + n % columns * inner.column_step;
  };
  const int64_t last_column = at % columns + (outer.rows - 1) * (outer.row_step % columns) +
                              (outer.columns - 1) * (outer.column_step % columns);
  if (outer.row_step < 0 || outer.column_step < 0 || last_column >= columns) return std::nullopt;
  return Strides{inner.first + step(at), outer.rows, outer.columns, step(outer.row_step),
                 step(outer.column_step)};
}

class PiecesSource final : public TensorSource {
 public:
  PiecesSource(std::shared_ptr<const TensorSource> source, std::vector<PiecedTensor> tensors)
      : source_(std::move(source)), pieced_(std::move(tensors)) {
    std::ranges::sort(pieced_, {},
                      [](const PiecedTensor& t) -> const std::string& { return t.info.name; });
    for (const PiecedTensor& t : pieced_) tensors_.push_back(t.info);
    if (const auto* inner = dynamic_cast<const PiecesSource*>(source_.get())) look_through(*inner);
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
        read_piece(source_of(t), piece, first, size, part);
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
      const ReadCost all = source_of(t).read_cost(*piece.stored);
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
  // Where the pieces of a tensor are read: in the source, or in what the source reads.
  const TensorSource& source_of(const PiecedTensor& t) const {
    const bool below = below_ && !looked_through_.empty() &&
                       looked_through_[static_cast<size_t>(&t - pieced_.data())];
    return below ? *below_ : *source_;
  }

  // The part of each place that belongs to the piece, since elements lie in their order also where
  // they are packed. Small places (scales) are named whole.
  static void add_places(const ReadCost& all, const Piece& piece, std::vector<FilePlace>& places) {
    constexpr uint64_t kSmall = 1 << 20;
    const auto elements = static_cast<uint64_t>(element_count(piece.stored->shape));
    const auto first = static_cast<uint64_t>(piece.place.first);
    for (FilePlace place : all.places) {
      const uint64_t size = place.size / elements;  // of an element
      if (size * elements == place.size) {
        place.offset += first * size;
        place.size = span_elements(piece.place) * size;
      } else if (place.size > kSmall) {
        const double share = static_cast<double>(place.size) / static_cast<double>(elements);
        const auto begin = static_cast<uint64_t>(std::floor(share * static_cast<double>(first)));
        const auto end = static_cast<uint64_t>(
            std::ceil(share * static_cast<double>(first + span_elements(piece.place))));
        place.offset += begin;
        place.size = std::min(end, place.size) - begin;
      }
      places.push_back(place);
    }
  }

  // A piece of a tensor that itself is made of pieces is read where it is stored, so that what lies
  // one after the other there is read so. Stacks that are shown turned around (MXFP4) and then one
  // by one need it.
  void look_through(const PiecesSource& inner) {
    below_ = inner.source_.get();
    looked_through_.resize(pieced_.size());
    for (size_t i = 0; i < pieced_.size(); ++i) {
      PiecedTensor& t = pieced_[i];
      if (is_whole(t)) continue;
      std::vector<Piece> pieces;
      for (const Piece& piece : t.pieces) {
        if (auto found = inner.stored_piece(piece)) pieces.push_back(*found);
      }
      looked_through_[i] = pieces.size() == t.pieces.size();
      if (looked_through_[i]) t.pieces = std::move(pieces);
    }
  }

  // A piece of one of these tensors as one of what they are made of, if it lies in one of theirs.
  std::optional<Piece> stored_piece(const Piece& piece) const {
    const PiecedTensor& t = of(*piece.stored);
    if (looked_through_.size() == pieced_.size()) return std::nullopt;  // two levels are enough
    if (is_whole(t)) return Piece{t.pieces[0].stored, piece.place};
    int64_t begin = 0;
    for (const Piece& own : t.pieces) {
      const int64_t end = begin + own.place.count();
      if (piece.place.first >= begin && piece.place.end() <= end) {
        const auto place = compose(piece.place, own.place, begin);
        return place ? std::optional(Piece{own.stored, *place}) : std::nullopt;
      }
      begin = end;
    }
    return std::nullopt;
  }

  // The rows of a matrix whose elements do not lie one after the other are read at once, with all
  // that lies between them.
  static void read_piece(const TensorSource& source, const Piece& piece, int64_t first, size_t size,
                         std::span<std::byte> out) {
    Strides place = piece.place;
    if (place.is_contiguous()) return source.read(*piece.stored, place.first + first, out);
    const int64_t count = static_cast<int64_t>(out.size() / size);
    const int64_t row = first / place.columns, end = (first + count - 1) / place.columns + 1;
    place.first += row * place.row_step;
    place.rows = end - row;
    std::vector<std::byte> range(span_elements(place) * size);
    source.read(*piece.stored, place.first, range);
    gather(place, first - row * place.columns, range, place.first, size, out);
  }

  std::shared_ptr<const TensorSource> source_;
  const TensorSource* below_ = nullptr;  // what source_ reads, if that consists of pieces, too
  std::vector<bool> looked_through_;     // per tensor: its pieces are those of below_
  std::vector<PiecedTensor> pieced_;     // sorted by name
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
