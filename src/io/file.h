// POSIX files, with errors as Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

#include "base/page_buffer.h"

namespace lewis {

class File {
 public:
  static File open_read(const std::filesystem::path& path);    // Error(kInput)
  static File create(const std::filesystem::path& path);       // new or emptied; Error(kResource)
  static File open_append(const std::filesystem::path& path);  // made if it is not there
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  uint64_t size() const;
  // Exactly out.size() bytes at `offset`; Error(kInput) that says how many were missing.
  void read_at(uint64_t offset, std::span<std::byte> out) const;
  // Error(kResource) when the disk is full.
  void write_at(uint64_t offset, std::span<const std::byte> bytes) const;
  // The same past the page cache, where the file system allows it: for what is written once and not
  // read soon, since fresh pages of the cache cost more than the copy into them. Offset, address
  // and size must be multiples of kDirectAlignment. One thread at a time.
  void write_past_cache(uint64_t offset, std::span<const std::byte> bytes) const;
  static constexpr size_t kDirectAlignment = 4096;
  // Takes the space for the whole file now, so that a full disk is known before the work.
  void allocate(uint64_t bytes) const;       // Error(kResource)
  void sync() const;                         // fsync
  void append(std::string_view text) const;  // to a file of open_append
  // Takes the file for this process until it is closed; false if another process has it.
  bool try_lock() const;
  const std::filesystem::path& path() const { return path_; }

 private:
  File(int fd, std::filesystem::path path) : fd_(fd), path_(std::move(path)) {}
  bool open_direct() const;

  static constexpr int kNotOpened = -1, kNotPossible = -2;
  int fd_ = -1;
  mutable int direct_fd_ = kNotOpened;  // of write_past_cache
  std::filesystem::path path_;
};

// Collects what is written from front to back into large pieces that go past the page cache. What
// lies in memory as far behind a multiple of File::kDirectAlignment as it will in the file needs no
// collecting.
class SequentialWriter {
 public:
  // `file` must outlive this.
  explicit SequentialWriter(const File& file) : file_(file) {}
  // Behind what came before: collected. Elsewhere: written at once.
  void write(uint64_t offset, std::span<const std::byte> bytes);
  // Writes what is collected; the file holds everything then.
  void flush();

 private:
  void stage(std::span<const std::byte> bytes);
  void write_pieces();

  const File& file_;
  PageBuffer room_;
  std::span<std::byte> staged_;  // of room_; empty before the first write and after flush()
  size_t filled_ = 0;
  uint64_t begin_ = 0;  // of what is staged; a multiple of File::kDirectAlignment
  uint64_t end_ = 0;    // of what came in order
};

void sync_folder(const std::filesystem::path& folder);
void write_file_durably(const std::filesystem::path& path, std::span<const std::byte> bytes);
// Lets `write` fill PATH.tmp, fsync, rename: PATH is the new file or what it was.
void replace_file(const std::filesystem::path& path, const std::function<void(const File&)>& write);

}  // namespace lewis
