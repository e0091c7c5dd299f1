// Opening files that strangers have made, and reading them whole, within limits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace lewis {

// A file descriptor that is closed in the end.
class FileHandle {
 public:
  explicit FileHandle(int fd) : fd_(fd) {}
  ~FileHandle();
  FileHandle(FileHandle&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileHandle& operator=(FileHandle&&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Opens a file that the user names: anything but a folder. Error(kInput).
FileHandle open_file(const std::filesystem::path& file);

// Opens a file that lies in a folder, as a model's files do. It must be a regular file, and links
// must not lead out of the folder, or else a model could have any file of the user's copied. They
// may lead to the blobs of a hub cache whose snapshot the folder is
// (models--ID/snapshots/REVISION/NAME -> ../../blobs/HASH). The folder itself may be a link. It
// does not wait, whatever the file is. Error(kInput) that says what is wrong.
FileHandle open_file_within(const std::filesystem::path& folder, const std::filesystem::path& name);

// All bytes of a file that was opened as `named`. Error(kInput) when it cannot be read, when it
// has more than `most` bytes, or when it is a pipe or a device of more than 256 MiB.
std::string read_whole_file(const FileHandle& file, const std::filesystem::path& named,
                            uint64_t most);

}  // namespace lewis
