// The size of a tensor that somebody else describes.
#pragma once

#include <cstdint>

#include "base/tensor.h"

namespace lewis {

// The bytes that dtype and shape ask for. Throws Error(kInput) without a place for sizes below 0,
// for what does not fit in 63 bits, and for elements smaller than a byte that do not fill whole
// bytes.
uint64_t checked_byte_size(const TensorInfo& info);

}  // namespace lewis
