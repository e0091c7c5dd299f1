// Memory for whole tensors: it grows and is used again, since fresh pages cost more than the
// arithmetic on them, and asks for huge pages.
#pragma once

#include <cstddef>
#include <span>

namespace lewis {

class PageBuffer {
 public:
  PageBuffer() = default;
  ~PageBuffer();
  PageBuffer(const PageBuffer&) = delete;
  PageBuffer& operator=(const PageBuffer&) = delete;
  PageBuffer(PageBuffer&& other) noexcept;
  PageBuffer& operator=(PageBuffer&& other) noexcept;

  // `bytes` bytes that stay until the next call; what they hold is unspecified. Error(kResource)
  // when there is no memory.
  std::span<std::byte> get(size_t bytes);

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace lewis
