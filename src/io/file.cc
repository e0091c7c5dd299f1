#include "io/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace lewis {
namespace {

Error write_error(const std::filesystem::path& path, const char* doing) {
  const int code = errno;
  const ExitCode exit =
      code == ENOSPC || code == EDQUOT || code == ENOMEM ? ExitCode::kResource : ExitCode::kFailed;
  return Error(exit, fmt::format("{}: {}: {}", path.string(), doing, std::strerror(code)));
}

}  // namespace

File File::open_read(const std::filesystem::path& path) {
  // Without O_NONBLOCK a named pipe would wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw input_error("{}: cannot be opened: {}", path.string(), std::strerror(errno));
  File file(fd, path);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    throw input_error("{}: expected a file, found something else", path.string());
  }
  return file;
}

File File::create(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) throw write_error(path, "cannot be created");
  return File(fd, path);
}

File File::open_append(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) throw write_error(path, "cannot be created");
  return File(fd, path);
}

void File::append(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t n = ::write(fd_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw write_error(path_, "cannot be written");
    text.remove_prefix(static_cast<size_t>(n));
  }
}

bool File::try_lock() const { return ::flock(fd_, LOCK_EX | LOCK_NB) == 0; }

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

uint64_t File::size() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0)
    throw input_error("{}: cannot be read: {}", path_.string(), std::strerror(errno));
  return static_cast<uint64_t>(info.st_size);
}

void File::read_at(uint64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw input_error("{}: cannot be read: {}", path_.string(), std::strerror(errno));
    if (n == 0) {
      throw input_error("{}: ends at byte {}, expected {} more: the file became shorter",
                        path_.string(), offset + done, out.size() - done);
    }
    done += static_cast<size_t>(n);
  }
}

void File::write_at(uint64_t offset, std::span<const std::byte> bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw write_error(path_, "cannot be written");
    done += static_cast<size_t>(n);
  }
}

void File::allocate(uint64_t bytes) const {
  if (bytes == 0) return;
  errno = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  if (errno == EOPNOTSUPP || errno == EINVAL) return;  // the file system cannot: writes will tell
  if (errno != 0) throw write_error(path_, "space cannot be allocated");
}

void File::sync() const {
  if (::fsync(fd_) != 0) throw write_error(path_, "cannot be flushed to disk");
}

void sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw write_error(folder, "cannot be opened");
  const int result = ::fsync(fd);
  ::close(fd);
  if (result != 0) throw write_error(folder, "cannot be flushed to disk");
}

void write_file_durably(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  const File file = File::create(path);
  file.write_at(0, bytes);
  file.sync();
}

}  // namespace lewis
