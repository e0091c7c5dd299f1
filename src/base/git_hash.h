// The hash by which git names the content of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lewis {

// SHA-1 over "blob SIZE\0" and the content, which arrives in pieces.
class GitBlobHash {
 public:
  explicit GitBlobHash(uint64_t size);
  ~GitBlobHash();
  GitBlobHash(const GitBlobHash&) = delete;
  GitBlobHash& operator=(const GitBlobHash&) = delete;
  void add(std::span<const std::byte> bytes);
  // 40 hexadecimal digits. The object is finished afterwards.
  std::string hex();

 private:
  void* state_;
};

}  // namespace lewis
