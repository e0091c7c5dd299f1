#include "merge/tensor/streaming.h"

namespace lewis {

void StreamedInputs::visit(std::span<const ElementRange> ranges, const Use& use) const {
  // Its destructor waits, so that nothing reads into buffers that are gone.
  std::future<void> ahead;
  const auto begin_read = [&](size_t i) {
    ahead = std::async(std::launch::async, [this, range = ranges[i], &into = buffers_[i % 2]] {
      into.stored = read_stored(sources_, range, into.rooms);
    });
  };
  if (!ranges.empty()) begin_read(0);
  for (size_t i = 0; i < ranges.size(); ++i) {
    ahead.get();
    if (i + 1 < ranges.size()) begin_read(i + 1);
    use(ranges[i], buffers_[i % 2].stored);
  }
}

StreamedOutput::~StreamedOutput() {
  if (pending_.valid()) pending_.wait();
}

std::span<std::byte> StreamedOutput::begin(const ElementRange& range) {
  // The write of the range before the last is over: end() waits for one before it begins the next.
  const size_t size = dtype_size(writer_.tensors()[tensor_].dtype);
  offset_ = static_cast<uint64_t>(range.first) * size;
  const size_t lead = writer_.lead(tensor_, offset_);
  current_ = rooms_[turn_].get(lead + static_cast<size_t>(range.count) * size).subspan(lead);
  return current_;
}

void StreamedOutput::end() {
  finish();
  pending_ = std::async(std::launch::async, [this, offset = offset_, bytes = current_] {
    writer_.write(tensor_, offset, bytes);
  });
  turn_ = 1 - turn_;
}

void StreamedOutput::finish() {
  if (pending_.valid()) pending_.get();
}

}  // namespace lewis
