// POSIX files, with errors as Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

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
  // Takes the space for the whole file now, so that a full disk is known before the work.
  void allocate(uint64_t bytes) const;       // Error(kResource)
  void sync() const;                         // fsync
  void append(std::string_view text) const;  // to a file of open_append
  // Takes the file for this process until it is closed; false if another process has it.
  bool try_lock() const;
  const std::filesystem::path& path() const { return path_; }

 private:
  File(int fd, std::filesystem::path path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  std::filesystem::path path_;
};

void sync_folder(const std::filesystem::path& folder);
void write_file_durably(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace lewis
