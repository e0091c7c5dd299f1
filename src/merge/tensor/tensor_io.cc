#include "merge/tensor/tensor_io.h"

#include <algorithm>

namespace lewis {

std::vector<ElementRange> ranges_of(int64_t count, int64_t block) {
  std::vector<ElementRange> ranges;
  if (block == 0) block = std::max<int64_t>(1, count);
  for (int64_t first = 0; first < count; first += block)
    ranges.push_back({first, std::min(block, count - first)});
  return ranges;
}

void MemoryInputs::visit(std::span<const ElementRange> ranges, const Use& use) const {
  std::vector<StoredTensor> part = tensors_;
  for (const ElementRange& range : ranges) {
    for (size_t i = 0; i < part.size(); ++i) {
      const size_t size = dtype_size(part[i].dtype);
      part[i].bytes = tensors_[i].bytes.subspan(static_cast<size_t>(range.first) * size,
                                                static_cast<size_t>(range.count) * size);
    }
    use(range, part);
  }
}

}  // namespace lewis
