// POSIX files, with errors as Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/page_buffer.h"

namespace lewis {

class File {
 public:
  static File open_read(const std::filesystem::path& path);  // Error(kInput)
  static File create(const std::filesystem::path& path);     // new or emptied; Error(kResource)
  // A new file ".NAME.tmp-PID-N", which is locked. Those that processes which are gone have left
  // for the same NAME are removed.
  static File create_beside(const std::filesystem::path& path);
  static File create_in_memory(const std::filesystem::path& named);  // without a place on disk
  static File open_stream(const std::filesystem::path& path);  // a device or a pipe, to append
  static File duplicate(int descriptor, const std::filesystem::path& named);
  static File open_append(const std::filesystem::path& path);  // made if it is not there
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  uint64_t size() const;
  // Exactly out.size() bytes at `offset`; Error(kInput) that says how many were missing.
  void read_at(uint64_t offset, std::span<std::byte> out) const;
  // Error(kResource) when the disk is full.
  void write_at(uint64_t offset, std::span<const std::byte> bytes) const;
  // write_at past the page cache, where the file system allows it. It suits bytes that are written
  // once and not read soon: fresh pages of the cache cost more than the copy into them. Offset,
  // address and size must be multiples of kDirectAlignment. One thread at a time.
  void write_past_cache(uint64_t offset, std::span<const std::byte> bytes) const;
  static constexpr size_t kDirectAlignment = 4096;
  // Takes the space for the whole file now, so that a full disk is known before the work.
  void allocate(uint64_t bytes) const;       // Error(kResource)
  void sync() const;                         // fsync
  void append(std::string_view text) const;  // to a file of open_append, open_stream, duplicate
  void set_mode(unsigned mode) const;        // its permissions
  // Locks the file for this object until it is closed; false if another one holds the lock.
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

// Collects bytes that are written from front to back into large pieces that go past the page cache.
// Bytes that lie in memory as far behind a multiple of File::kDirectAlignment as they will lie in
// the file are written from where they are.
class SequentialWriter {
 public:
  // `file` must outlive this.
  explicit SequentialWriter(const File& file) : file_(file) {}
  // Bytes that follow those before are collected; others are written at once.
  void write(uint64_t offset, std::span<const std::byte> bytes);
  // Writes the collected bytes. Afterwards the file holds everything.
  void flush();

 private:
  void stage(std::span<const std::byte> bytes);
  void write_pieces();

  const File& file_;
  PageBuffer room_;
  std::span<std::byte> staged_;  // part of room_; empty before the first write and after flush()
  size_t filled_ = 0;
  uint64_t begin_ = 0;  // where the staged bytes go; a multiple of File::kDirectAlignment
  uint64_t end_ = 0;    // where the bytes that came in order end
};

// fsync of a folder: afterwards the names of its files are on the disk.
void sync_folder(const std::filesystem::path& folder);

// Writes a small file so that, whatever happens, PATH is the whole new file or what it was before;
// on return the new file is on the disk. `write` fills a temporary file of a unique name beside it
// (File::create_beside), which is flushed and renamed; then the folder is flushed. On an error the
// temporary file is removed. A file that is replaced leaves its permissions to the new one. A link
// stays a link: what it leads to is replaced. A device, a pipe or an open file of this process
// (/dev/stdout, /dev/fd/N) is written into, never replaced. Error(kResource) when the disk is full,
// Error(kUsage) when PATH is a folder or a link that leads nowhere.
void write_file_durably(const std::filesystem::path& path,
                        const std::function<void(const File&)>& write);
void write_file_durably(const std::filesystem::path& path, std::string_view content);

}  // namespace lewis
