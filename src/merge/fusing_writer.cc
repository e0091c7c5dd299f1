#include "merge/fusing_writer.h"

#include <algorithm>

#include "base/dtype.h"
#include "base/error.h"

namespace lewis {

std::vector<TensorInfo> infos_of(const std::vector<WrittenTensor>& written) {
  std::vector<TensorInfo> infos;
  for (const WrittenTensor& t : written) infos.push_back(t.info);
  return infos;
}

FusingWriter::FusingWriter(TensorWriter& inner, const std::vector<WrittenTensor>& written,
                           const std::vector<TensorInfo>& merged)
    : inner_(inner) {
  std::map<std::string_view, const WrittenTensor*> by_name;
  for (const WrittenTensor& t : written) by_name.emplace(t.info.name, &t);
  std::map<std::string_view, const TensorInfo*> parts;
  for (const TensorInfo& t : merged) parts.emplace(t.name, &t);
  for (size_t i = 0; i < inner.tensors().size(); ++i) {
    const WrittenTensor& t = *by_name.at(inner.tensors()[i].name);
    const size_t first_block = blocks_.size();
    for (const WrittenPart& part : t.parts) {
      Place place{i, part.place, 0};
      if (place.strides.rows == 0) {
        const int64_t all = unit_count(t.info);
        place.strides = {0, 1, all, all, 1};
      }
      tensors_.push_back(*parts.at(part.name));
      if (!place.strides.is_contiguous()) {
        // The parts of one expert follow each other, and together they are a range.
        const Strides& s = place.strides;
        const bool same = blocks_.size() > first_block && s.first < blocks_.back().end;
        if (!same) blocks_.push_back({s.first, s.end(), 0, {}});
        Block& block = blocks_.back();
        block.first = std::min(block.first, s.first);
        block.end = std::max(block.end, s.end());
        block.missing += byte_size(tensors_.back());
        place.block = blocks_.size() - 1;
      }
      places_.push_back(place);
    }
  }
}

size_t FusingWriter::lead(size_t tensor, uint64_t offset) const {
  const Place& place = places_.at(tensor);
  if (!place.strides.is_contiguous()) return 0;
  const auto size = static_cast<uint64_t>(dtype_size(tensors_[tensor].dtype));
  return inner_.lead(place.tensor, static_cast<uint64_t>(place.strides.first) * size + offset);
}

void FusingWriter::write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) {
  const Place& place = places_.at(tensor);
  const size_t size = dtype_size(tensors_[tensor].dtype);
  const auto begin = [&](int64_t element) { return static_cast<uint64_t>(element) * size; };
  if (place.strides.is_contiguous())
    return inner_.write(place.tensor, begin(place.strides.first) + offset, bytes);
  std::lock_guard lock(mutex_);
  const uint64_t whole = byte_size(tensors_[tensor]);
  std::span<const std::byte> values = bytes;
  if (bytes.size() < whole) {
    std::vector<std::byte>& begun = begun_[tensor];
    begun.resize(whole);
    std::ranges::copy(bytes, begun.begin() + static_cast<std::ptrdiff_t>(offset));
    if (offset + bytes.size() < whole) return;  // blocks come from front to back
    values = begun;
  }
  Block& block = blocks_[place.block];
  block.bytes.resize(begin(block.end - block.first));
  scatter(place.strides, values, block.first, size, block.bytes);
  begun_.erase(tensor);
  block.missing -= whole;
  if (block.missing > 0) return;
  inner_.write(place.tensor, begin(block.first), block.bytes);
  block.bytes = {};
}

}  // namespace lewis
