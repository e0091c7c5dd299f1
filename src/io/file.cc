#include "io/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/current_error.h"
#include "base/error.h"

namespace lewis {

namespace {

constexpr int kNewFile = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;

// The beginning of the names of temporary files beside `path`; names have 255 bytes at most.
std::string temporary_stem(const std::filesystem::path& path) {
  return fmt::format(".{}.tmp-", path.filename().string().substr(0, 200));
}

// Removes temporary files that a process has left which is no longer there: nobody has them locked.
void remove_left_overs(const std::filesystem::path& folder, const std::string& stem) {
  std::error_code error;
  std::vector<std::filesystem::path> found;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().filename().string().starts_with(stem)) found.push_back(it->path());
  }
  for (const std::filesystem::path& path : found) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
    ::close(fd);
  }
}

}  // namespace

File File::open_read(const std::filesystem::path& path) {
  // Without O_NONBLOCK a named pipe would wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw file_error(path, "cannot be opened");
  File file(fd, path);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    throw input_error("{}: expected a file, found something else", path.string());
  }
  return file;
}

File File::create(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) throw file_error(path, "cannot be created");
  return File(fd, path);
}

File File::create_beside(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const std::string stem = temporary_stem(path);
  remove_left_overs(folder, stem);
  for (int n = 0;; ++n) {
    const auto temporary = path.parent_path() / fmt::format("{}{}-{}", stem, ::getpid(), n);
    const int fd = ::open(temporary.c_str(), kNewFile, 0644);
    if (fd < 0 && errno == EEXIST) continue;
    if (fd < 0) throw file_error(path, "cannot be created");
    File file(fd, temporary);
    // Before the lock another process may have taken it for a left-over. A file system without
    // locks has no left-overs that are removed, either.
    struct stat info {};
    const bool locked = file.try_lock() || errno != EWOULDBLOCK;
    if (locked && ::fstat(fd, &info) == 0 && info.st_nlink > 0) return file;
  }
}

File File::create_in_memory(const std::filesystem::path& named) {
  const int fd = ::memfd_create("lewis", MFD_CLOEXEC);
  if (fd < 0) throw file_error(named, "cannot be written");
  return File(fd, named);
}

File File::open_stream(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) throw file_error(path, "cannot be opened");
  return File(fd, path);
}

File File::duplicate(int descriptor, const std::filesystem::path& named) {
  const int fd = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) throw file_error(named, "cannot be opened");
  return File(fd, named);
}

void File::set_mode(unsigned mode) const {
  if (::fchmod(fd_, mode) != 0) throw file_error(path_, "cannot be given its mode");
}

File File::open_append(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0644);
  if (fd < 0) throw file_error(path, "cannot be created");
  File file(fd, path);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
    throw input_error("{}: expected a file, found something else", path.string());
  return file;
}

void File::append(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t n = ::write(fd_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw file_error(path_, "cannot be written");
    text.remove_prefix(static_cast<size_t>(n));
  }
}

bool File::try_lock() const { return ::flock(fd_, LOCK_EX | LOCK_NB) == 0; }

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      direct_fd_(std::exchange(other.direct_fd_, kNotOpened)),
      path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(direct_fd_, other.direct_fd_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
  if (direct_fd_ >= 0) ::close(direct_fd_);
}

uint64_t File::size() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) throw file_error(path_, "cannot be read");
  return static_cast<uint64_t>(info.st_size);
}

void File::read_at(uint64_t offset, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw file_error(path_, "cannot be read");
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
    if (n < 0) throw file_error(path_, "cannot be written");
    done += static_cast<size_t>(n);
  }
}

bool File::open_direct() const {
  if (direct_fd_ == kNotOpened) {
    direct_fd_ = ::open(path_.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (direct_fd_ < 0) direct_fd_ = kNotPossible;
  }
  return direct_fd_ >= 0;
}

void File::write_past_cache(uint64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty() && open_direct()) {
    const ssize_t n = ::pwrite(direct_fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EINVAL) throw file_error(path_, "cannot be written");
    const size_t done = n < 0 ? 0 : static_cast<size_t>(n);
    offset += done;
    bytes = bytes.subspan(done);
    if (n < 0 || done % kDirectAlignment != 0) break;  // the rest has to go through the cache
  }
  write_at(offset, bytes);
}

// True if memory can go to this place of a file past the cache.
static bool goes_directly(uint64_t offset, std::span<const std::byte> bytes) {
  constexpr size_t kWorthIt = 1 << 20;
  return bytes.size() >= kWorthIt && offset % File::kDirectAlignment == 0 &&
         reinterpret_cast<uintptr_t>(bytes.data()) % File::kDirectAlignment == 0;
}

void SequentialWriter::write(uint64_t offset, std::span<const std::byte> bytes) {
  if (offset != end_) return file_.write_at(offset, bytes);
  end_ += bytes.size();
  constexpr size_t kPiece = 8 << 20;
  if (staged_.empty()) staged_ = room_.get(kPiece);
  const size_t to_block = std::min<size_t>(bytes.size(), -offset % File::kDirectAlignment);
  if (goes_directly(offset + to_block, bytes.subspan(to_block))) {
    stage(bytes.first(to_block));
    write_pieces();
    bytes = bytes.subspan(to_block);
    const size_t whole = bytes.size() / File::kDirectAlignment * File::kDirectAlignment;
    file_.write_past_cache(begin_, bytes.first(whole));
    begin_ += whole;
    bytes = bytes.subspan(whole);
  }
  stage(bytes);
}

void SequentialWriter::stage(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), staged_.size() - filled_);
    std::memcpy(staged_.data() + filled_, bytes.data(), n);
    filled_ += n;
    bytes = bytes.subspan(n);
    if (filled_ == staged_.size()) write_pieces();
  }
}

// Writes all whole blocks of the staged bytes; the rest stays.
void SequentialWriter::write_pieces() {
  const size_t whole = filled_ / File::kDirectAlignment * File::kDirectAlignment;
  if (whole > 0) file_.write_past_cache(begin_, staged_.first(whole));
  begin_ += whole;
  filled_ -= whole;
  std::memmove(staged_.data(), staged_.data() + whole, filled_);
}

void SequentialWriter::flush() {
  if (staged_.empty()) return;
  write_pieces();
  file_.write_at(begin_, staged_.first(filled_));
  staged_ = {};
  room_ = PageBuffer();
}

void File::allocate(uint64_t bytes) const {
  if (bytes == 0) return;
  errno = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  if (errno == EOPNOTSUPP || errno == EINVAL) return;  // the file system cannot: writes will tell
  if (errno != 0) throw file_error(path_, "space cannot be allocated");
}

void File::sync() const {
  if (::fsync(fd_) != 0) throw file_error(path_, "cannot be flushed to disk");
}

void sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw file_error(folder, "cannot be opened");
  const int result = ::fsync(fd);
  ::close(fd);
  if (result != 0) throw file_error(folder, "cannot be flushed to disk");
}

}  // namespace lewis
