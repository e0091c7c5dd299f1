// Memory for whole tensors: it grows and is used again, since fresh pages cost more than the
// arithmetic on them, and asks for huge pages.
#pragma once

#include <cstddef>
#include <span>

namespace lewis {

// Fresh pages for `bytes` bytes, zeroed, on huge pages where the kernel has some; and back to the
// system at once, so that a program holds no more than it uses. Error(kResource) when there is no
// memory. `bytes` must be the same for both.
std::byte* map_pages(size_t bytes);
void unmap_pages(std::byte* data, size_t bytes);

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
  size_t capacity() const { return size_; }  // bytes that it holds

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace lewis
