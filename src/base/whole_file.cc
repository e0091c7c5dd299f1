#include "base/whole_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/current_error.h"
#include "base/error.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostOfStream = 256 << 20;

struct stat status_of(const FileHandle& file, const fs::path& named) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) throw file_error(named, "cannot be read");
  return info;
}

// What a file is, for messages.
const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "something else";
}

// True if `inner` lies below `outer`; both are canonical.
bool lies_below(const fs::path& inner, const fs::path& outer) {
  const auto [a, b] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return a == outer.end() && b != inner.end();
}

// The blobs of the hub cache's entry that has this snapshot, or a folder of it; empty: it is none.
fs::path blobs_of(const fs::path& folder) {
  for (fs::path at = folder; at.has_relative_path(); at = at.parent_path()) {
    const fs::path above = at.parent_path();
    if (above.filename() == "snapshots" &&
        above.parent_path().filename().string().starts_with("models--"))
      return above.parent_path() / "blobs";
  }
  return {};
}

}  // namespace

FileHandle::~FileHandle() {
  if (fd_ >= 0) ::close(fd_);
}

FileHandle open_file(const fs::path& file) {
  FileHandle opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (opened.get() < 0) throw file_error(file, "cannot be opened");
  if (S_ISDIR(status_of(opened, file).st_mode))
    throw input_error("{}: expected a file, found a folder", file.string());
  return opened;
}

FileHandle open_file_within(const fs::path& folder, const fs::path& name) {
  const fs::path named = folder / name;
  std::error_code error;
  const fs::path root = fs::canonical(folder.empty() ? fs::path(".") : folder, error);
  const fs::path file = error ? named : fs::canonical(named, error);
  if (error) throw file_error(named, "cannot be opened", error);
  const fs::path blobs = blobs_of(root);
  if (!lies_below(file, root) && (blobs.empty() || !lies_below(file, blobs))) {
    throw input_error(
        "{}: is a link that leads out of the folder, to {}, and is not followed; copy the file to "
        "where the link is",
        named.string(), file.string());
  }
  FileHandle opened(
      ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW));
  if (opened.get() < 0) throw file_error(named, "cannot be opened");
  const mode_t mode = status_of(opened, named).st_mode;
  if (!S_ISREG(mode))
    throw input_error("{}: expected a file, found {}", named.string(), kind_of(mode));
  return opened;
}

std::string read_whole_file(const FileHandle& file, const fs::path& named, uint64_t most) {
  const struct stat info = status_of(file, named);
  if (!S_ISREG(info.st_mode)) most = std::min(most, kMostOfStream);
  const auto said = S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0;
  if (said > most) {
    throw input_error("{}: has {} bytes, at most {} are read of such a file", named.string(), said,
                      most);
  }
  constexpr size_t kPiece = 1 << 16;
  std::string text(said + 1, '\0');  // one more, to see the end
  for (size_t done = 0;;) {
    if (done == text.size()) text.resize(text.size() + std::max(kPiece, text.size() / 2));
    const ssize_t n = ::read(file.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw file_error(named, "cannot be read");
    done += static_cast<size_t>(n);
    if (n == 0 || done > most) text.resize(done);
    if (n == 0) return text;
    if (done > most) {
      throw input_error("{}: has more than {} bytes, which are not read of such a file",
                        named.string(), most);
    }
  }
}

}  // namespace lewis
