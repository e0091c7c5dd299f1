#include "base/page_buffer.h"

#include <sys/mman.h>

#include <utility>

#include "base/error.h"

namespace lewis {

namespace {
constexpr size_t kPage = size_t{4} << 10, kHugePage = size_t{2} << 20;

size_t whole_pages(size_t bytes) {
  const size_t page = bytes < kHugePage ? kPage : kHugePage;
  return (bytes + page - 1) / page * page;
}
}  // namespace

std::byte* map_pages(size_t bytes) {
  const size_t size = whole_pages(bytes);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw resource_error("no memory for a tensor of {} bytes", bytes);
  if (size >= kHugePage) ::madvise(data, size, MADV_HUGEPAGE);  // if not, small ones do
  return static_cast<std::byte*>(data);
}

void unmap_pages(std::byte* data, size_t bytes) { ::munmap(data, whole_pages(bytes)); }

PageBuffer::~PageBuffer() {
  if (data_) unmap_pages(data_, size_);
}

PageBuffer::PageBuffer(PageBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

PageBuffer& PageBuffer::operator=(PageBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::span<std::byte> PageBuffer::get(size_t bytes) {
  if (bytes > size_) {
    PageBuffer old = std::move(*this);  // gone before the new one is there
    old = PageBuffer();
    data_ = map_pages(bytes);
    size_ = whole_pages(bytes);
  }
  return {data_, bytes};
}

}  // namespace lewis
