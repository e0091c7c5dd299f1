#include "io/tensor_bytes.h"

#include "base/error.h"

namespace lewis {

uint64_t checked_byte_size(const TensorInfo& info) {
  uint64_t bytes = dtype_size(info.dtype);
  bool empty = false;
  for (const int64_t size : info.shape) {
    if (size < 0) throw input_error("shape {} has a size below 0", to_string(info.shape));
    empty = empty || size == 0;
    if (size != 0 && __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      bytes = UINT64_MAX;
    if (bytes > INT64_MAX) throw input_error("shape {} is too large", to_string(info.shape));
  }
  if (empty) return 0;
  const uint64_t bits = dtype_bits(info.dtype);
  if (bits < 8 && bytes % 8 * bits % 8 != 0) {
    throw input_error("{} of {} does not fill whole bytes", to_string(info.shape),
                      dtype_name(info.dtype));
  }
  return byte_size(info);
}

}  // namespace lewis
