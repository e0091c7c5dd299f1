#include "base/page_buffer.h"

#include <sys/mman.h>

#include <utility>

#include "base/error.h"

namespace lewis {

namespace {
constexpr size_t kPage = size_t{4} << 10, kHugePage = size_t{2} << 20;
}  // namespace

PageBuffer::~PageBuffer() {
  if (data_) ::munmap(data_, size_);
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
    const size_t page = bytes < kHugePage ? kPage : kHugePage;
    const size_t size = (bytes + page - 1) / page * page;
    void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw resource_error("no memory for a tensor of {} bytes", bytes);
    if (page == kHugePage) ::madvise(data, size, MADV_HUGEPAGE);  // if not, small ones do
    data_ = static_cast<std::byte*>(data);
    size_ = size;
  }
  return {data_, bytes};
}

}  // namespace lewis
